"""The state of raw runs: which frames a run brings, and what belongs to each of them."""

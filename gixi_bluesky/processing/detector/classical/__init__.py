"""The detector that needs no weights: a search for significant arcs."""

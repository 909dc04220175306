"""Matching of the peaks of a frame to phases, with a probability each."""

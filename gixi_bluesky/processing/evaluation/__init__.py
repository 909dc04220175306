"""Evaluation of detectors and phase probabilities on frames whose truth is known."""

"""Judge detectors and phase probabilities on frames whose truth is known."""

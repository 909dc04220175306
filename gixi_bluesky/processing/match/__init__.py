"""Which phases explain the peaks of a frame, with a probability each."""

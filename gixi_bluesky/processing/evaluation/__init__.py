"""How good a detector is: average precision, recall and calibration on frames with known truth."""

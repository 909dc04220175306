"""The checks of `check`: the numbers of a set-up, and whether images agree with them."""

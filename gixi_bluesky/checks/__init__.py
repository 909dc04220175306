"""What `check` looks at: the numbers of a set-up, and whether images agree with them."""

"""How crystallites are oriented: pole figures of rings, and the numbers that sum them up."""

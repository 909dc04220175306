"""Cuts: curves along |q|, phi, q_xy or q_z, averaged from detector pixels."""

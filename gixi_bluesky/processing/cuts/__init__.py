"""Cuts: curves along |q|, phi, q_xy or q_z, averaged from detector pixels."""

from gixi_bluesky.processing.cuts.curves import Cut
from gixi_bluesky.processing.cuts.settings import CutSettings

__all__ = ["Cut", "CutSettings"]

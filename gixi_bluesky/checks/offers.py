"""Calibrations in an image file that the configuration does not use."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from gixi_bluesky.errors import GixiError

if TYPE_CHECKING:
    from gixi_bluesky.config import Config
    from gixi_bluesky.processing.geometry.instrument import Geometry
    from gixi_bluesky.processing.geometry.poni import Poni

__all__ = ["offers"]

_SUFFIXES = (".h5", ".hdf5", ".nxs")
_AGREE = 0.01
_AGREE_PX = 3.0


def offers(config: Config, image: Path, geometry: Geometry, shape: tuple[int, int]) -> list[str]:
    """Return what the file holds and the configuration lacks or contradicts, a sentence each.

    geometry: of the configuration; shape: (rows, columns) of the array as read
    """
    if image.suffix.lower() not in _SUFFIXES:
        return []
    from gixi_bluesky.processing.geometry.nexus_calibration import read_nexus
    from gixi_bluesky.processing.pixels.own_calibrations import read_own_calibrations

    notes = [
        f"{image.name} holds a value of its own for {key}, which is not configured: {value}"
        for key, value in read_own_calibrations(image).settings.items()
        if _missing(config, key)
    ]
    if config.geometry.nexus is None:
        try:
            notes += _contradictions(read_nexus(image), geometry, shape, config)
        except GixiError:
            return notes  # it holds no geometry
    return notes


def _missing(config: Config, key: str) -> bool:
    section, name = key.split(".")
    return getattr(getattr(config, section), name) is None


def _contradictions(
    own: Poni, geometry: Geometry, shape: tuple[int, int], config: Config
) -> list[str]:
    from gixi_bluesky.processing.geometry.calibration import orientation_of

    pairs = [
        ("distance", "mm", own.distance_m * 1e3, geometry.distance_m * 1e3),
        ("pixel height", "mm", own.pixel_size_m[0] * 1e3, geometry.pixel_size_m[0] * 1e3),
        ("wavelength", "angstrom", own.wavelength_angstrom, geometry.wavelength_angstrom),
    ]
    notes = [
        f"the file says {name} {theirs:.5g} {unit}, the configuration {ours:.5g}"
        for name, unit, theirs, ours in pairs
        if theirs is not None and not math.isclose(theirs, ours, rel_tol=_AGREE)
    ]
    turn = orientation_of(config.geometry)
    center = [at / size - 0.5 for at, size in zip(own.poni_m, own.pixel_size_m, strict=True)]
    laid = turn.matrix @ [c - (n - 1) / 2 for c, n in zip(center, shape, strict=True)]
    theirs = [c + (n - 1) / 2 for c, n in zip(laid, turn.shape(shape), strict=True)]
    ours = geometry.beam_center_px
    if max(abs(a - b) for a, b in zip(theirs, ours, strict=True)) > _AGREE_PX:
        notes.append(
            f"the file has the beam at row {theirs[0]:.1f}, column {theirs[1]:.1f} after the flip, "
            f"the configuration at {ours[0]:.1f}, {ours[1]:.1f}"
        )
    return notes

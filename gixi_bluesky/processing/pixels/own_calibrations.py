"""Calibrations of a detector in its own file: mask, flat field, count cutoff.

Read are the fields of NXdetector and those of an Eiger's master file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gixi_bluesky.errors import FrameError, RefusedPathError
from gixi_bluesky.processing.hdf5_files import Hdf5File, any_file, open_hdf5

__all__ = ["OwnCalibrations", "read_own_calibrations"]

_SPECIFIC = "detectorSpecific"
_MASKS = ("pixel_mask", f"{_SPECIFIC}/pixel_mask")
_FLATS = ("flatfield", f"{_SPECIFIC}/flatfield")
_FLAT_APPLIED = ("flatfield_applied", "flatfield_correction_applied")
_CUTOFFS = ("saturation_value", f"{_SPECIFIC}/countrate_correction_count_cutoff")


@dataclass(frozen=True, slots=True)
class OwnCalibrations:
    """The calibrations in a detector's file, by the keys of a configuration.

    mask, flat: FILE::DATASET; None where there is none, or the detector applied it already
    saturation: counts from which on a pixel says nothing
    """

    mask: str | None = None
    flat: str | None = None
    saturation: float | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The calibrations by the key of the configuration."""
        values = {
            "geometry.mask": self.mask,
            "corrections.flat": self.flat,
            "corrections.saturation": self.saturation,
        }
        return {key: value for key, value in values.items() if value is not None}


def read_own_calibrations(path: Path) -> OwnCalibrations:
    """Read the calibrations of the only detector of an HDF5 file; none if there are several.

    Raises UnavailableError for a file that cannot be read.
    """
    with open_hdf5(path, any_file) as file:
        detectors = list(_detectors(file))
        if len(detectors) != 1:
            return OwnCalibrations()
        detector = detectors[0]
        mask = _image(file, detector, _MASKS)
        flat = _image(file, detector, _FLATS)
        if any(_number(file, detector, name) == 1 for name in _FLAT_APPLIED):
            flat = None
        cutoffs = (_number(file, detector, name) for name in _CUTOFFS)
        return OwnCalibrations(
            mask and f"{path}::{mask}",
            flat and f"{path}::{flat}",
            next((cutoff for cutoff in cutoffs if cutoff is not None and cutoff > 0), None),
        )


def _detectors(file: Hdf5File) -> Iterator[h5py.Group]:
    for node in file.own_nodes():
        if not isinstance(node, h5py.Group):
            continue
        if file.attribute(node, "NX_class") == "NXdetector" or _SPECIFIC in node:
            yield node


def _image(file: Hdf5File, detector: h5py.Group, names: tuple[str, ...]) -> str | None:
    """Return the path of the first of these that is an image with more than one value."""
    for name in names:
        node = _member(file, detector, name)
        if node is not None and node.ndim == 2 and node.dtype.kind in "buif":
            values = node[()]
            if np.any(values != values.flat[0]):
                return f"{detector.name}/{name}"
    return None


def _number(file: Hdf5File, detector: h5py.Group, name: str) -> float | None:
    node = _member(file, detector, name)
    if node is None or node.size != 1 or node.dtype.kind not in "buif":
        return None
    return float(np.asarray(node[()]).reshape(()))


def _member(file: Hdf5File, detector: h5py.Group, name: str) -> h5py.Dataset | None:
    try:
        node = file.child(detector, name)
    except (FrameError, RefusedPathError):
        return None
    return node if isinstance(node, h5py.Dataset) else None

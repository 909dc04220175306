"""Polar images and their geometry under the names that pygid and the mlgid programs read.

They read the group `data` of every entry, whose signal is named after the kind of image, and from
`instrument` numbers without their units: lengths and wavelength in metres, rotations in radians,
the incidence angle of each image in degrees. NXinstrument does not know these fields, hence an
entry of its own. Images and axes are links, so that nothing is stored twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.tiled_adapters.files.hdf5_text import group_of, text
from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET

__all__ = ["MLGID_ENTRY", "create_mlgid"]

MLGID_ENTRY = "mlgid"

_SIGNAL = "img_gid_pol"
_LINKS = {
    _SIGNAL: IMAGE_DATASET,
    "frame_num": "/entry/polar/frame",
    "ang_gid_pol": "/entry/polar/phi",
    "q_gid_pol": "/entry/polar/q",
}
_DETECTOR = ("distance", "x_pixel_size", "y_pixel_size", "beam_center_x", "beam_center_y")
_ROTATIONS = ("aequatorial_angle", "polar_angle", "rotation_angle")
_ANGSTROM = 1e-10


def create_mlgid(entry: h5py.Group, start: Mapping[str, Any]) -> None:
    """Write `data` of an entry that has images, tables and instrument, and the entry `mlgid`.

    The entry is written where beam centre, distance and wavelength are configured as numbers; of a
    geometry from a file, pygid lists the images and cannot load them.
    """
    _create_data(entry)
    instrument = entry["instrument"]
    detector, monochromator = instrument["detector"], instrument["monochromator"]
    if "wavelength" not in monochromator or any(name not in detector for name in _DETECTOR):
        return
    own = group_of(entry.file, MLGID_ENTRY, "NXentry", default="data")
    own["title"], own["sample"] = entry["title"], entry["sample"]
    _create_data(own)
    sources = _of_images(entry, "source", b"")
    own["data"]["filename"] = np.array(sources, dtype="S") if any(sources) else b"unknown"
    described = group_of(own, "instrument", "NXcollection")
    described["name"], described["source"] = instrument["name"], instrument["source"]
    _numbers(described, {"angle_of_incidence": _incidence(entry, start)}, "deg")
    wavelength = group_of(described, "monochromator", "NXmonochromator")
    _numbers(wavelength, {"wavelength": monochromator["wavelength"][()] * _ANGSTROM}, "m")
    place = group_of(described, "detector", "NXcollection")
    for name in _DETECTOR:
        place[name] = detector[name]
    _numbers(place, dict.fromkeys(_ROTATIONS, 0.0), "rad")  # a beam centre: it is not turned


def _create_data(entry: h5py.Group) -> None:
    data = group_of(entry, "data", "NXdata", interpretation="image")
    data.attrs["signal"] = _SIGNAL  # of variable length: pygid does not decode bytes
    data.attrs["axes"] = np.array([b"frame_num", b"ang_gid_pol", b"q_gid_pol"])
    for name, target in _LINKS.items():
        data[name] = entry.file[target]


def _numbers(group: h5py.Group, values: Mapping[str, Any], unit: str) -> None:
    for name, value in values.items():
        group.create_dataset(name, data=np.asarray(value, np.float64)).attrs["units"] = text(unit)


def _incidence(entry: h5py.Group, start: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the incidence angle of each image, deg; NaN where it is not known."""
    configured = start.get("gixi", {}).get("geometry", {}).get("incidence_angle_deg")
    default = float(configured) if isinstance(configured, int | float) else np.nan
    angles = np.array(_of_images(entry, "incidence_angle_deg", np.nan), dtype=np.float64)
    return np.where(np.isfinite(angles), angles, default)


def _of_images(entry: h5py.Group, column: str, unknown: Any) -> list[Any]:
    """Return the values of a column of `frames` for the frame of each image."""
    rows = entry.get("frames", {})
    stored = zip(rows["frame"][()], rows[column][()], strict=False) if column in rows else ()
    known = dict(stored)
    return [known.get(frame, unknown) for frame in entry["polar/frame"][()]]

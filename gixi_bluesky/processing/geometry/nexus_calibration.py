"""Calibrations in NeXus files: a detector group, and the beam of its entry.

Read are NXdetector's distance (detector_distance in the files of an Eiger), beam_center_x and _y,
x_pixel_size and y_pixel_size, and the wavelength or energy of NXbeam or NXmonochromator. x counts
columns and y rows of the array as it is read, from the outer edge of the first pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gixi_bluesky.errors import GeometryError
from gixi_bluesky.processing.geometry.array_orientation import Orientation
from gixi_bluesky.processing.geometry.poni import Poni
from gixi_bluesky.processing.settings import HC_KEV_ANGSTROM
from gixi_bluesky.provenance import require_regular

__all__ = ["read_nexus"]

_METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "micron": 1e-6, "nm": 1e-9}
_ANGSTROMS = {"angstrom": 1.0, "a": 1.0, "å": 1.0, "nm": 10.0, "pm": 1e-2, "m": 1e10}
_KEVS = {"kev": 1.0, "ev": 1e-3, "mev": 1e3}
_PIXELS = ("pixel", "pixels", "px")
_PLURAL = {"meter": "m", "metre": "m", "millimeter": "mm", "millimetre": "mm", "micrometer": "um"}
_BEAM_CLASSES = ("NXbeam", "NXmonochromator")
_DISTANCES = ("distance", "detector_distance")
_WAVELENGTHS = ("incident_wavelength", "wavelength")
_ENERGIES = ("incident_energy", "energy")
_TILTS = ("polar_angle", "azimuthal_angle", "pitch", "yaw", "roll")
_GROUPS_LOOKED_AT = 10_000
_LINKS_FOLLOWED = 16


def read_nexus(place: str | Path) -> Poni:
    """Read FILE or FILE::GROUP; without a group the file must hold exactly one such NXdetector.

    The same unchanged file is read once. Raises GeometryError for a file that cannot be read, that
    lacks a value or its unit, and for a detector that is turned: that needs a PONI.
    """
    name, _, group = str(place).partition("::")
    path = Path(name)
    try:
        state = path.stat()
    except OSError as error:
        message = f"cannot read the NeXus file {path}: {error.strerror}"
        raise GeometryError(message) from error
    return _read(path, group, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=32)
def _read(path: Path, group: str, _mtime_ns: int, _size: int) -> Poni:
    try:
        require_regular(path)
        with h5py.File(path, "r") as file:
            return _calibration(path, _detector(file, path, group))
    except GeometryError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        message = f"{path} is no NeXus file that can be read: {error}"
        raise GeometryError(message) from error


def _detector(file: h5py.File, path: Path, group: str) -> h5py.Group:
    if group:
        named = _own(file, group)
        if not isinstance(named, h5py.Group) or _class(named) != "NXdetector":
            message = f"{path} has no NXdetector {group!r}"
            raise GeometryError(message)
        return named
    found = _groups(file, ("NXdetector",))
    detectors = [one for one in found if any(name in one for name in _DISTANCES)]
    if len(detectors) != 1:
        names = ", ".join(one.name for one in detectors) or "none"
        message = (
            f"{path} holds {len(detectors)} NXdetector groups with a distance ({names}); "
            "expected one: name it as FILE::GROUP"
        )
        raise GeometryError(message)
    return detectors[0]


def _calibration(path: Path, detector: h5py.Group) -> Poni:
    _require_straight(path, detector)
    named = next((name for name in _DISTANCES if name in detector), _DISTANCES[0])
    distance = _number(path, detector, named, _METRES)
    pixel = tuple(_number(path, detector, f"{axis}_pixel_size", _METRES) for axis in "yx")
    center = tuple(
        _center(path, detector, f"beam_center_{axis}", size)
        for axis, size in zip("yx", pixel, strict=True)
    )
    return Poni(
        path=path,
        distance_m=distance,
        poni_m=(center[0], center[1]),
        rotations_rad=(0.0, 0.0, 0.0),
        pixel_size_m=(pixel[0], pixel[1]),
        wavelength_angstrom=_wavelength(path, detector),
        orientation=Orientation(),
        detector_shape=_shape(detector),
    )


def _wavelength(path: Path, detector: h5py.Group) -> float | None:
    """Return what the beam of the detector's own entry states, None if nothing does."""
    entry = detector
    while entry.name != "/" and _class(entry) != "NXentry":
        entry = entry.parent
    for beam in _groups(entry, _BEAM_CLASSES):
        for name in _WAVELENGTHS:
            if name in beam:
                return _number(path, beam, name, _ANGSTROMS)
        for name in _ENERGIES:
            if name in beam:
                return HC_KEV_ANGSTROM / _number(path, beam, name, _KEVS)
    return None


def _center(path: Path, detector: h5py.Group, name: str, pixel_m: float) -> float:
    """Return a coordinate of the direct beam from the detector's edge, m."""
    pixels = dict.fromkeys((*_PIXELS, ""), pixel_m)
    return _number(path, detector, name, _METRES | pixels, positive=False)


def _number(
    path: Path, group: h5py.Group, name: str, units: Mapping[str, float], *, positive: bool = True
) -> float:
    """Return a number in the unit that has the value 1 in `units`."""
    where = f"{path} {group.name}/{name}"
    dataset = _own(group, name)
    if (
        not isinstance(dataset, h5py.Dataset)
        or dataset.size != 1
        or dataset.dtype.kind not in "iuf"
    ):
        message = f"{where} is missing, or no single number"
        raise GeometryError(message)
    stated = _text(dataset.attrs.get("units", "")).strip().lower()
    unit = _PLURAL.get(stated.removesuffix("s"), stated)
    unit = unit if unit in units else unit.removesuffix("s")
    if unit not in units:
        known = ", ".join(one for one in units if one)
        message = f"{where} has the units {stated!r}; expected one of {known}"
        raise GeometryError(message)
    value = float(np.asarray(dataset[()]).reshape(())) * units[unit]
    if not math.isfinite(value) or (positive and value <= 0):
        message = f"{where} is {value:g}; expected a{' positive' if positive else ''} number"
        raise GeometryError(message)
    return value


def _require_straight(path: Path, detector: h5py.Group) -> None:
    """Raise GeometryError for a turned detector, whose axes follow no fixed convention."""
    turned = [name for name in _TILTS if name in detector and _nonzero(detector, name)]
    for transformations in _groups(detector, ("NXtransformations",)):
        turned += [
            name
            for name in transformations
            if isinstance(axis := _own(transformations, name), h5py.Dataset)
            and _text(axis.attrs.get("transformation_type", "")) == "rotation"
            and _nonzero(transformations, name)
        ]
    if turned:
        message = (
            f"{path} {detector.name} is turned ({', '.join(turned)}); tilts are taken from PONI "
            "files only, and those of an arm as geometry.arm_in_plane_deg and arm_out_of_plane_deg"
        )
        raise GeometryError(message)


def _nonzero(group: h5py.Group, name: str) -> bool:
    dataset = _own(group, name)
    return (
        isinstance(dataset, h5py.Dataset)
        and dataset.dtype.kind in "iuf"
        and dataset.size <= _GROUPS_LOOKED_AT
        and bool(np.any(np.asarray(dataset[()])))
    )


def _shape(detector: h5py.Group) -> tuple[int, int] | None:
    """Return (rows, columns) of the images, or of the mask where an Eiger has them elsewhere."""
    for name in ("data", "pixel_mask", "detectorSpecific/pixel_mask"):
        data = _own(detector, name) if name.split("/")[0] in detector else None
        if isinstance(data, h5py.Dataset) and data.ndim >= 2:
            return int(data.shape[-2]), int(data.shape[-1])
    return None


def _groups(top: h5py.Group, classes: tuple[str, ...]) -> Iterator[h5py.Group]:
    """Yield groups of these classes in the file itself, nearest to its root first."""
    waiting, looked_at = [top], 0
    while waiting and looked_at < _GROUPS_LOOKED_AT:
        group = waiting.pop(0)
        looked_at += 1
        if _class(group) in classes:
            yield group
        waiting += [
            group[name]
            for name in group
            if isinstance(group.get(name, getlink=True), h5py.HardLink)
            and group.get(name, getclass=True) is h5py.Group
        ]


def _own(group: h5py.Group, name: str, links: int = 0) -> Any:
    """Return what a name means within the file itself, None for what leads out of it or nowhere."""
    here: Any = group.file if name.startswith("/") else group
    for part in filter(None, name.split("/")):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if isinstance(link, h5py.SoftLink) and links < _LINKS_FOLLOWED:
            here = _own(here, link.path, links + 1)
        else:
            here = here[part] if isinstance(link, h5py.HardLink) else None
    if isinstance(here, h5py.Dataset) and (here.is_virtual or here.external):
        return None
    return here


def _class(group: h5py.Group) -> str:
    return _text(group.attrs.get("NX_class", ""))


def _text(value: Any) -> str:
    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

"""PONI files of every version, read by pyFAI."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from gixi_bluesky.errors import GeometryError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processing.geometry.array_orientation import Orientation
from gixi_bluesky.provenance import require_regular

__all__ = ["Poni", "read_poni"]


@dataclass(frozen=True, slots=True)
class Poni:
    """A calibration as its file states it, a PONI or a NeXus file.

    distance_m, poni_m (2), pixel_size_m (2): m, axis 1 first; rotations_rad (3): rad
    wavelength_angstrom: angstrom, None where the file has none
    orientation: how the file lays the array as read before it counts pixels
    detector_shape: (rows, columns) of the array as read, None for a detector of unknown size
    """

    path: Path
    distance_m: float
    poni_m: tuple[float, float]
    rotations_rad: tuple[float, float, float]
    pixel_size_m: tuple[float, float]
    wavelength_angstrom: float | None
    orientation: Orientation
    detector_shape: tuple[int, int] | None

    @property
    def sha256(self) -> str:
        """Hash of the calibration, independent of the rest of its file."""
        numbers = {key: value for key, value in asdict(self).items() if key != "path"}
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()

    def binning_for(self, shape: tuple[int, int]) -> int:
        """Return how many pixels on a side one pixel of frames of `shape` is made of.

        shape: (rows, columns) of the array as read
        Raises GeometryError for frames that are no whole detector, binned alike in both directions.
        """
        full = self.detector_shape
        if full is None:
            return 1
        factor = full[0] // max(shape[0], 1)
        if factor < 1 or full != (shape[0] * factor, shape[1] * factor):
            message = (
                f"the frame is {shape[0]} x {shape[1]} pixels, but {self.path} is for a detector "
                f"of {full[0]} x {full[1]}, also if binned alike in both directions; use the "
                "calibration of this detector, or give the region that was read out as "
                "geometry.roi_offset_px: [row, column]"
            )
            raise GeometryError(message)
        return factor

    def require_region(self, offset: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
        """Return the size of the whole detector, (rows, columns).

        Raises GeometryError for a region of `shape` at `offset` that does not lie within.
        """
        full = self.detector_shape
        if full is None:
            message = f"{self.path} states no size of the detector, which roi_offset_px needs"
            raise GeometryError(message)
        if any(first + n > whole for first, n, whole in zip(offset, shape, full, strict=True)):
            message = (
                f"frames of {shape[0]} x {shape[1]} pixels from roi_offset_px {list(offset)} on "
                f"reach beyond the {full[0]} x {full[1]} of {self.path}"
            )
            raise GeometryError(message)
        return full


def read_poni(path: str | Path) -> Poni:
    """Read a PONI file of any version; the same unchanged file is read once.

    Raises GeometryError for a file that cannot be read or used, and if pyFAI is missing.
    """
    path = Path(path)
    try:
        require_regular(path)
        state = path.stat()
    except OSError as error:
        message = f"cannot read the PONI file {path}: {error.strerror}"
        raise GeometryError(message) from error
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=32)
def _read(path: Path, _mtime_ns: int, _size: int) -> Poni:
    try:
        from pyFAI.io.ponifile import PoniFile
    except ImportError as error:
        message = f"reading {path} needs pyFAI: pip install 'gixi_bluesky[pyfai]'"
        raise GeometryError(message) from error
    try:
        file = PoniFile(str(path))
        detector = file.detector
        numbers = {
            name: float(getattr(file, name))
            for name in ("dist", "poni1", "poni2", "rot1", "rot2", "rot3")
        }
        pixel = (float(detector.pixel1), float(detector.pixel2))
    except Exception as error:  # pyFAI raises what its parsers raise: KeyError, TypeError, …
        message = f"{path} is not a PONI file that pyFAI can read: {error!r}"
        raise GeometryError(message) from error
    _require_flat(path, detector)
    if file._parallax:  # noqa: SLF001 - pyFAI has no public name for it
        get_logger(poni=str(path)).warning("the PONI's parallax correction is not applied")
    return Poni(
        path=path,
        distance_m=numbers["dist"],
        poni_m=(numbers["poni1"], numbers["poni2"]),
        rotations_rad=(numbers["rot1"], numbers["rot2"], numbers["rot3"]),
        pixel_size_m=pixel,
        wavelength_angstrom=None if file.wavelength is None else float(file.wavelength) * 1e10,
        orientation=Orientation.from_detector(int(detector.orientation or 3)),
        detector_shape=tuple(detector.shape) if detector.shape else None,
    )


def _require_flat(path: Path, detector: Any) -> None:
    if not (detector.uniform_pixel and detector.IS_FLAT):
        message = (
            f"{path} describes {detector.name}, whose pixels do not lie on a regular flat grid; "
            "correct the distortion first and calibrate the corrected image"
        )
        raise GeometryError(message)

"""The real frames beside the checkout: their geometries, and how to read and remap them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fabio
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.geometry.calibration import orient
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings, GeometrySettings, GridSettings
from gixi_bluesky.processing.types import CartesianImage, PolarImage

Frame = NDArray[Any]

MAPBBR3 = GeometrySettings(
    wavelength_angstrom=0.6888,
    distance_mm=809.0,
    pixel_size_mm=(0.2, 0.2),
    beam_center_px=(222.0, 545.0),
    incidence_angle_deg=0.5,
    flip="vertical",
)
# Pm-3m, a = 5.9328 angstrom, 1/angstrom; the last is cut by the edge of the image.
MAPBBR3_RINGS = [1.059, 1.498, 1.834, 2.118, 2.368, 2.594, 2.996, 3.177, 3.349, 3.669, 3.819]
MAPBBR3_WEAK = 3.513
FOREIGN_RING = 0.454  # weak, and not MAPbBr3's

_CMS: dict[str, Any] = {"pixel_size_mm": (0.172, 0.172), "flip": "vertical"}
LAB6 = GeometrySettings(
    **_CMS,
    wavelength_angstrom=0.9762535,
    distance_mm=233.975,
    beam_center_px=(388.43, 576.24),
    incidence_angle_deg=0.5,
)
MAPI = GeometrySettings(
    **_CMS,
    wavelength_angstrom=0.976254,
    distance_mm=230.0,
    beam_center_px=(388.0, 535.5),
    incidence_angle_deg=0.3,
)


def mapbbr3(shared_data: Path) -> Frame:
    return _only(shared_data / "mapbbr3_p08", "*.tif")


def lab6(shared_data: Path) -> tuple[Frame, Frame]:
    """Return the frame and its mask, True = masked."""
    folder = shared_data / "lab6_cms_gi"
    return _only(folder, "*.tiff"), _only(folder, "*.edf") != 0


def mapi(shared_data: Path, number: int) -> Frame:
    return _only(shared_data / "mapi_insitu_cms", f"*{number:06d}_maxs.tiff")


def remapped(
    frame: Frame, geometry: GeometrySettings, mask: Frame | None = None, **grid: Any
) -> PolarImage:
    """Remap a frame as it lies in its file; grid: what is not the default of GridSettings."""
    return _remapper(frame, geometry, mask, **grid)(orient(frame, geometry))


def remapped_cartesian(frame: Frame, geometry: GeometrySettings, **grid: Any) -> CartesianImage:
    """Return the same on (q_xy, q_z)."""
    remapper = _remapper(frame, geometry, None, space="cartesian", **grid)
    image = remapper.cartesian(orient(frame, geometry))
    assert image is not None
    return image


def _remapper(
    frame: Frame, geometry: GeometrySettings, mask: Frame | None, **grid: Any
) -> Remapper:
    return Remapper(
        Geometry.from_settings(geometry, frame.shape),
        GridSettings(**grid),
        CorrectionSettings(),
        frame.shape,
        None if mask is None else orient(mask, geometry),
    )


def _only(folder: Path, pattern: str) -> Frame:
    (path,) = folder.glob(pattern)
    return np.asarray(fabio.open(str(path)).data)

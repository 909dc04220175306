"""Cuts are the curves that pyFAI's fiber integrator averages from the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyFAI.detectors import Detector
from pyFAI.integrator.fiber import FiberIntegrator
from real_frames import LAB6, MAPBBR3, MAPI, lab6, mapbbr3, mapi

from gixi_bluesky.processing.cuts.maps import CutMaps
from gixi_bluesky.processing.cuts.settings import CutSettings
from gixi_bluesky.processing.geometry.calibration import orient
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.pixels.masks import invalid_pixels
from gixi_bluesky.processing.pixels.noise import Noise
from gixi_bluesky.processing.settings import CorrectionSettings, GeometrySettings, GridSettings
from gixi_bluesky.processing.types import Cut

pytestmark = [
    pytest.mark.data,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

GRID = GridSettings(q_max_inv_angstrom=3.0, side="right")
CORRECTIONS = CorrectionSettings()
# Each with the units and ranges of pyFAI: chigi is the angle from q_z, 90 deg - phi.
CUTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sector": (
        {"along": "q", "phi": (10, 80), "q": (0.2, 3.0), "bins": 400},
        {"unit_oop": "chigi_deg", "oop_range": (10, 80), "unit_ip": "qtot_A^-1"},
    ),
    "ring": (
        {"along": "phi", "q": (1.4, 1.6), "phi": (5, 85), "bins": 80},
        {"unit_oop": "chigi_deg", "unit_ip": "qtot_A^-1", "ip_range": (1.4, 1.6)},
    ),
    "rod": (
        {"along": "q_z", "q_xy": (1.0, 1.2), "q_z": (0.2, 2.2), "bins": 200},
        {"unit_oop": "qoop_A^-1", "unit_ip": "qip_A^-1", "ip_range": (1.0, 1.2)},
    ),
    "inplane": (
        {"along": "q_xy", "q_z": (0.1, 0.3), "q_xy": (0.3, 2.2), "bins": 200},
        {"unit_oop": "qoop_A^-1", "oop_range": (0.1, 0.3), "unit_ip": "qip_A^-1"},
    ),
}


def frames(shared_data: Path) -> dict[str, tuple[NDArray[Any], GeometrySettings, Any]]:
    mapbbr3_counts = np.maximum(mapbbr3(shared_data), 0)  # a flat panel's negatives are noise
    lab6_counts, lab6_mask = lab6(shared_data)
    return {
        "mapbbr3": (mapbbr3_counts, MAPBBR3, None),
        "lab6": (lab6_counts, LAB6, lab6_mask),
        "mapi": (mapi(shared_data, 160), MAPI, None),
    }


def reference(name: str, frame: NDArray[Any], geometry: Geometry, masked: NDArray[np.bool_]) -> Any:
    """Average the same cut with pyFAI, without pixel splitting."""
    settings, ranges = CUTS[name]
    pixel1, pixel2 = geometry.pixel_size_m
    rot1, rot2, rot3 = geometry.rotations_rad
    integrator = FiberIntegrator(
        geometry.distance_m,
        *geometry.poni_m,
        rot1,
        rot2,
        rot3,
        detector=Detector(pixel1, pixel2, max_shape=frame.shape),
        wavelength=geometry.wavelength_angstrom * 1e-10,
    )
    along_in_plane = settings["along"] in ("q", "q_xy")
    limits = settings[settings["along"]]
    if settings["along"] == "phi":
        limits = (90 - limits[1], 90 - limits[0])
    own, other = ("ip", "oop") if along_in_plane else ("oop", "ip")
    return integrator.integrate_fiber(
        frame.astype(float),
        **{f"npt_{own}": settings["bins"], f"{own}_range": limits},
        **{f"npt_{other}": 1000},  # added up again; few would widen the range across
        **ranges,
        vertical_integration=not along_in_plane,
        incident_angle=geometry.incidence_angle_rad,
        sample_orientation=1,
        mask=masked,
        polarization_factor=CORRECTIONS.polarization,
        method=("no", "csr", "cython"),
    )


def cut_of(name: str, frame: NDArray[Any], geometry: Geometry, valid: NDArray[np.bool_]) -> Cut:
    cuts = {name: CutSettings(**CUTS[name][0])}
    return CutMaps(cuts, geometry, GRID, CORRECTIONS, valid)(frame, Noise(1.0, 0.0))[name]


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("which", ["mapbbr3", "lab6", "mapi"])
def test_a_cut_is_the_curve_that_pyfai_averages(shared_data, which, name):
    read, settings, mask = frames(shared_data)[which]
    geometry = Geometry.from_settings(settings, read.shape)
    frame = orient(read, settings)
    valid = ~invalid_pixels(frame)
    if mask is not None:
        valid &= ~orient(mask, settings)
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
    above = geometry.q_at(rows, columns)[1] >= geometry.horizon_q_z
    expected = reference(name, frame, geometry, ~(valid & above))
    found = cut_of(name, frame, geometry, valid)

    reverse = slice(None, None, -1) if found.along == "phi" else slice(None)
    # The fiber integrator gives no errors; Poisson's follow from its sums.
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = (np.sqrt(expected.sum_signal) / expected.sum_normalization)[reverse]
    level = expected.intensity[reverse]
    seen = (found.n_pixels > 5) & (expected.count[reverse] > 5)
    assert seen.sum() > 0.4 * len(seen)
    within = np.abs(found.intensity - level)[seen] <= found.error[seen]
    assert within.mean() >= 0.95
    # A pixel on the edge of two bins may fall either way; it moves an error by half its share.
    alike = np.isclose(found.error, sigma, rtol=0.05)[seen]
    assert alike.mean() >= 0.95

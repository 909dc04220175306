"""LaB6 (SRM 660c) at grazing incidence: the rings lie where the certificate says."""

from __future__ import annotations

from pathlib import Path

import fabio
import numpy as np
import pyFAI
import pyFAI.units
import pytest
from scipy.optimize import curve_fit

from gixi_bluesky.processing.geometry.calibration import orient
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.pixels.masks import load_mask
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings, GeometrySettings, GridSettings
from gixi_bluesky.processing.types import PolarImage

pytestmark = pytest.mark.data

# 2 pi / a sqrt(h² + k² + l²), a = 4.156826 angstrom, for 100, 110, 111, 200 … inside the frame.
RINGS = 2 * np.pi / 4.156826 * np.sqrt([1, 2, 3, 4])

# Without its tilt the calibration puts 100 too low above the horizon; pyFAI finds it there too.
FLAT = [2e-3, 1.5e-3, 1.5e-3, 1.5e-3]
TILTED = [1.5e-3] * 4

GEOMETRIES = {
    "numbers": (
        {
            "wavelength_angstrom": 0.9762535,
            "distance_mm": 233.975,
            "pixel_size_mm": (0.172, 0.172),
            "beam_center_px": (388.43, 576.24),
        },
        FLAT,
    ),
    "flat PONI": ({"poni": "231017"}, FLAT),
    "tilted PONI": ({"poni": "jun23"}, TILTED),
}


@pytest.fixture
def folder(shared_data: Path) -> Path:
    return shared_data / "lab6_cms_gi"


def read_frame(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    frame = fabio.open(str(next(folder.glob("*.tiff")))).data
    return frame, load_mask(folder / "LaB6_SRM660c_Calib_Mask.edf", frame.shape)


def remapped(folder: Path, geometry: dict[str, object]) -> PolarImage:
    if "poni" in geometry:
        geometry = {"poni": next(folder.glob(f"{geometry['poni']}*.poni"))}
    settings = GeometrySettings(incidence_angle_deg=0.5, flip="vertical", **geometry)
    frame, mask = read_frame(folder)
    remapper = Remapper(
        Geometry.from_settings(settings, frame.shape),
        GridSettings(q_max_inv_angstrom=3.2),
        CorrectionSettings(),
        frame.shape,
        orient(mask, settings),
    )
    return remapper(orient(frame, settings))


def ring_centers(q: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """Centres of Gaussians on lines, fitted to a profile along q."""

    def center(expected: float) -> float:
        near = (np.abs(q - expected) < 0.05) & np.isfinite(profile)

        def model(q: np.ndarray, *p: float) -> np.ndarray:
            return p[0] * np.exp(-0.5 * ((q - p[1]) / p[2]) ** 2) + p[3] + p[4] * (q - expected)

        start = (np.ptp(profile[near]), expected, 0.01, profile[near].min(), 0.0)
        return float(curve_fit(model, q[near], profile[near], start)[0][1])

    return np.array([center(ring) for ring in RINGS])


def profile_of(polar: PolarImage) -> np.ndarray:
    weight = polar.pixels.sum(axis=0)
    total = np.nansum(polar.intensity * polar.pixels, axis=0)
    return np.divide(total, weight, out=np.full(weight.shape, np.nan), where=weight > 0)


@pytest.mark.filterwarnings("ignore:Data at tag id")
@pytest.mark.parametrize("name", GEOMETRIES)
def test_rings_lie_where_the_certificate_says(folder: Path, name: str) -> None:
    geometry, tolerance = GEOMETRIES[name]
    polar = remapped(folder, geometry)
    found = ring_centers(polar.q, profile_of(polar))
    assert np.all(np.abs(found / RINGS - 1) <= tolerance)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Data at tag id")
@pytest.mark.parametrize("name", ["231017", "jun23"])
def test_rings_lie_where_pyfai_finds_them_pixel_by_pixel(folder: Path, name: str) -> None:
    polar = remapped(folder, {"poni": name})
    frame, mask = read_frame(folder)
    ai = pyFAI.load(str(next(folder.glob(f"{name}*.poni"))))
    q = ai.center_array(frame.shape, unit="q_A^-1", scale=True)
    unit = pyFAI.units.get_unit_fiber(
        "exit_angle_vert_deg", incident_angle=np.radians(0.5), sample_orientation=4
    )
    above = ai.center_array(frame.shape, unit=unit, scale=True) > 0
    use = above & ~mask & (frame >= 0) & (q < 3.2)
    cell = np.rint(q[use] / polar.q[1]).astype(int)
    counts = np.bincount(cell, minlength=len(polar.q)).astype(float)
    with np.errstate(invalid="ignore"):
        profile = np.bincount(cell, frame[use], minlength=len(polar.q)) / counts
    expected = ring_centers(polar.q, profile[: len(polar.q)])
    np.testing.assert_allclose(ring_centers(polar.q, profile_of(polar)), expected, rtol=3e-4)

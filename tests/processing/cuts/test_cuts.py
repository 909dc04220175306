"""Cuts of frames whose curves are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gixi_bluesky.errors import FrameError, GeometryError
from gixi_bluesky.processing.cuts.maps import CutMaps
from gixi_bluesky.processing.cuts.settings import CutSettings
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.geometry.intensity_factors import intensity_factor
from gixi_bluesky.processing.pixels.counts import PixelCorrection
from gixi_bluesky.processing.pixels.noise import Noise
from gixi_bluesky.processing.settings import CorrectionSettings, GridSettings
from gixi_bluesky.processing.types import Cut

SHAPE = (200, 260)
GEOMETRY = Geometry(
    wavelength_angstrom=1.0,
    distance_m=0.2,
    pixel_size_m=(5e-4, 5e-4),
    poni_m=(0.01, 0.065),
    incidence_angle_rad=np.radians(0.2),
)
GRID = GridSettings(q_max_inv_angstrom=2.5, shape=(90, 250))
PLAIN = CorrectionSettings(solid_angle=False, polarization=None)
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]
Q_XY, Q_Z = GEOMETRY.q_at(ROWS, COLUMNS)
Q, PHI = np.hypot(Q_XY, Q_Z), np.degrees(np.arctan2(Q_Z, np.abs(Q_XY)))


def maps(valid: Any = None, corrections: CorrectionSettings = PLAIN, **cut: Any) -> CutMaps:
    chosen = np.ones(SHAPE, bool) if valid is None else valid
    return CutMaps({"one": CutSettings(**cut)}, GEOMETRY, GRID, corrections, chosen)


def cut(frame: np.ndarray, valid: Any = None, **settings: Any) -> Cut:
    return maps(valid, **settings)(frame, Noise(1.0, 0.0))["one"]


@pytest.mark.parametrize(
    "settings",
    [
        {"along": "q", "phi": (10, 80)},
        {"along": "phi", "q": (1.0, 1.2), "bins": 30},
        {"along": "q_z", "q_xy": (0.5, 0.7)},
        {"along": "q_xy", "q_z": (0.3, 0.5)},
        {"along": "phi", "q": (1.0, 1.2), "side": "both", "bins": 60},
        {"along": "q", "q": (0.1, 2.0), "spacing": "log", "bins": 60},
    ],
)
def test_a_linear_intensity_comes_out_at_the_centre_of_each_bin(settings):
    coordinate = {"q": Q, "phi": PHI, "q_z": Q_Z, "q_xy": np.abs(Q_XY)}[settings["along"]]
    found = cut((1000 * coordinate).astype(np.float32), **settings)
    seen = found.n_pixels > 20
    assert seen.sum() > 10
    width = np.gradient(found.axis)
    assert np.all(np.abs(found.intensity / 1000 - np.abs(found.axis))[seen] < 0.5 * width[seen])
    np.testing.assert_allclose(
        found.error[seen], np.sqrt(found.intensity / found.n_pixels)[seen], rtol=1e-6
    )
    assert found.unit == ("deg" if settings["along"] == "phi" else "1/angstrom")


def test_every_pixel_counts_once():
    found = cut(np.ones(SHAPE, np.uint16), along="q", q=(0.0, 2.5), phi=(0, 90))
    above = (GEOMETRY.horizon_q_z <= Q_Z) & (Q < 2.5) & (PHI < 90)
    assert found.n_pixels.sum() == above.sum()


def test_the_sides_of_the_beam_are_kept_apart_or_added():
    frame = np.where(Q_XY < 0, 10, 30).astype(np.uint16)
    by_side = {
        side: cut(frame, along="q", phi=(10, 80), q=(0.5, 1.2), bins=7, side=side)
        for side in ("left", "right", "fold")
    }
    np.testing.assert_allclose(by_side["left"].intensity, 10)
    np.testing.assert_allclose(by_side["right"].intensity, 30)
    pixels = {side: found.n_pixels for side, found in by_side.items()}
    np.testing.assert_array_equal(pixels["fold"], pixels["left"] + pixels["right"])
    signed = cut(frame, along="phi", q=(0.9, 1.1), side="both", bins=36)
    np.testing.assert_allclose(signed.intensity[(signed.axis < -10) & (signed.axis > -80)], 10)
    np.testing.assert_allclose(signed.intensity[(signed.axis > 10) & (signed.axis < 80)], 30)
    in_plane = cut(frame, along="q_xy", q_z=(0.1, 0.3), side="both", bins=40)
    assert in_plane.axis[0] < -1 < 1 < in_plane.axis[-1]
    left = (in_plane.axis < -0.1) & (in_plane.n_pixels > 0)
    np.testing.assert_allclose(in_plane.intensity[left], 10)


def test_coverage_is_the_share_of_a_bin_that_pixels_cover():
    whole = cut(np.ones(SHAPE, np.uint16), along="phi", q=(0.8, 1.0), phi=(20, 70), bins=10)
    np.testing.assert_allclose(whole.coverage, 1.0, atol=0.08)  # as fine as the pixels are
    half = Q < 0.9
    masked = cut(np.ones(SHAPE, np.uint16), half, along="phi", q=(0.8, 1.0), phi=(20, 70), bins=10)
    # Rings of equal width: the inner half of the area is less than one half.
    np.testing.assert_allclose(masked.coverage, (0.9**2 - 0.8**2) / (1 - 0.8**2), atol=0.04)
    beyond = cut(np.ones(SHAPE, np.uint16), along="q", phi=(10, 80), q=(0.1, 6.0), bins=59)
    assert np.isnan(beyond.intensity[beyond.axis > 4]).all()
    assert np.isnan(beyond.error[beyond.n_pixels == 0]).all()
    assert (beyond.coverage[beyond.n_pixels == 0] == 0).all()


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["int32", "uint16", "float32"]))
def test_pixels_that_a_frame_lacks_are_left_out(seed, dtype):
    random = np.random.default_rng(seed)
    frame = random.poisson(50, SHAPE).astype(dtype)
    gone = random.random(SHAPE) < 0.2
    along: dict[str, Any] = {"along": "q", "phi": (10, 80), "q": (0.3, 1.5), "bins": 20}
    expected = cut(frame, ~gone, **along)
    none = {"int32": -1, "uint16": 65535, "float32": np.nan}[dtype]
    found = cut(np.where(gone, np.array(none, dtype), frame), **along)
    np.testing.assert_array_equal(found.n_pixels, expected.n_pixels)
    np.testing.assert_allclose(found.intensity, expected.intensity, rtol=1e-5)
    np.testing.assert_allclose(found.error, expected.error, rtol=1e-5)
    np.testing.assert_allclose(found.coverage, expected.coverage, atol=1e-5)


def test_errors_are_true_for_counted_frames():
    random = np.random.default_rng(5)
    one = maps(along="q", phi=(10, 80), q=(0.3, 1.5), bins=30, background=((2, 6), (84, 88)))
    levels = 20 + 5 * np.sin(4 * Q)
    found = [one(random.poisson(levels).astype(np.int32), Noise(1, 0))["one"] for _ in range(60)]
    scatter = np.std([curve.intensity for curve in found], axis=0, ddof=1)
    stated = np.mean([curve.error for curve in found], axis=0)
    assert np.median(scatter / stated) == pytest.approx(1, abs=0.1)


def test_corrections_divide_the_counts():
    corrections = CorrectionSettings(polarization=0.9)
    factor = intensity_factor(GEOMETRY, ROWS, COLUMNS, corrections)
    frame = (500 * factor).astype(np.float32)
    found = maps(None, corrections, along="q", phi=(10, 80), q=(0.3, 1.5))(frame, Noise(1, 0))
    np.testing.assert_allclose(found["one"].intensity, 500, rtol=1e-5)


def test_dark_and_flat_come_with_their_noise():
    flat = np.linspace(0.5, 1.5, SHAPE[1])[None].repeat(SHAPE[0], 0).astype(np.float32)
    dark = np.full(SHAPE, 7.0, np.float32)
    pixels = PixelCorrection(
        dark, np.full(SHAPE, 2.0, np.float32), 1 / flat, np.ones(SHAPE, bool), None, ()
    )
    settings = {"one": CutSettings(along="q", phi=(10, 80), q=(0.3, 1.5), bins=20)}
    one = CutMaps(settings, GEOMETRY, GRID, PLAIN, np.ones(SHAPE, bool), pixels)
    frame = (40 * flat + dark).astype(np.float32)
    found = one(frame, Noise(1.0, 0.0))["one"]
    np.testing.assert_allclose(found.intensity, 40, rtol=1e-4)
    low, high = (((40 * f + 7) + 2) / f**2 for f in (1.5, 0.5))
    variance = found.error**2 * found.n_pixels
    assert np.all((variance > low) & (variance < high))


def test_the_background_is_taken_off():
    peak = 100 * np.exp(-(((Q - 1.05) / 0.01) ** 2) / 2)
    frame = (peak + 30 + 40 * (Q - 1.05)).astype(np.float32)
    settings: dict[str, Any] = {"along": "phi", "q": (1.0, 1.1), "phi": (20, 70), "bins": 10}
    plain = cut(frame, **settings)
    found = cut(frame, **settings, background=((0.9, 1.0), (1.1, 1.2)))
    np.testing.assert_allclose(plain.intensity - found.intensity, 30, rtol=0.02)
    assert (found.error > plain.error).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"along": "phi"}, "needs a range of q"),
        ({"along": "q", "q_z": (0, 1)}, "is limited by phi; got q_z too"),
        ({"along": "q", "phi": (80, 10)}, "the lower one first"),
        ({"along": "q", "background": ((0, 1),)}, "needs a range across"),
        ({"along": "phi", "q": (1, 2), "spacing": "log"}, "spacing: log needs along: q"),
        ({"along": "chi", "q": (1, 2)}, "Input should be 'q', 'phi', 'q_xy' or 'q_z'"),
    ],
)
def test_a_cut_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        CutSettings(**settings)


def test_a_cut_off_the_detector_is_refused_by_name():
    with pytest.raises(GeometryError, match=r"the cut 'one' is empty.*q in 5 to 6"):
        maps(along="phi", q=(5, 6))
    with pytest.raises(FrameError, match="expected"):
        cut(np.zeros((3, 3), np.uint16), along="q", phi=(10, 80))

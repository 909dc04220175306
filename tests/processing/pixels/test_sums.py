"""Sums of exposures: what a longer exposure would have been, pixel by pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import gixi_bluesky as gixi
from gixi_bluesky.config import parse_config
from gixi_bluesky.errors import FrameError
from gixi_bluesky.processing.pixels.counts import Dark
from gixi_bluesky.processing.pixels.exposures import FrameSum
from gixi_bluesky.processing.settings import CorrectionSettings

SHAPE = (161, 201)
GEOMETRY = {
    "energy_kev": 12.4,
    "distance_mm": 200.0,
    "pixel_size_mm": [1.0, 1.0],
    "beam_center_px": [10.0, 80.0],
    "incidence_angle_deg": 0.5,
}


def pipeline(folder: Path, **corrections: Any) -> gixi.Pipeline:
    tree = {
        "geometry": GEOMETRY,
        "grid": {"q_max_inv_angstrom": 2.5, "shape": [32, 64]},
        "detector": {"weights": "classical"},
        "corrections": {"solid_angle": False, "polarization": None, **corrections},
    }
    return gixi.Pipeline(parse_config(tree, folder=folder))


def summed(frames: Any, **settings: Any) -> np.ndarray:
    total = FrameSum(CorrectionSettings(**settings))
    for frame in frames:
        total.add(frame)
    assert total.exposures == len(frames)
    return total.result()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint32"])
def test_whole_counts_stay_whole_beyond_the_range_of_their_type(dtype: str) -> None:
    most = np.iinfo(dtype).max
    frames = np.full((5, 2, 2), most - 1, dtype)
    frames[3, 0, 1] = most  # a gap in one of them
    found = summed(frames)
    assert found.dtype.kind == "i"
    assert found.tolist() == [[5 * (int(most) - 1), -1], [5 * (int(most) - 1)] * 2]


@given(
    arrays.arrays(
        np.float32, (3, 4, 5), elements=st.floats(-100, 100, width=32) | st.just(float("nan"))
    )
)
def test_no_data_in_one_exposure_is_none_in_the_sum(frames: np.ndarray) -> None:
    found = summed(frames)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(frames).any(axis=0))
    whole = ~np.isnan(found)
    expected = frames.astype(float).sum(axis=0)
    np.testing.assert_allclose(found[whole], expected[whole], atol=1e-3)


def test_saturation_and_dummies_are_those_of_one_exposure() -> None:
    frames = np.full((3, 2, 2), 40, np.uint16)
    frames[1, 0, 0] = 50
    assert summed(frames, saturation=50).tolist() == [[-1, 120], [120, 120]]
    reals = np.full((3, 2, 2), 40.0, np.float32)
    reals[2, 1, 1] = -7.0
    assert np.isnan(summed(reals, dummy=(-7.0,))).tolist() == [[False, False], [False, True]]


def test_images_that_do_not_fit_are_refused() -> None:
    total = FrameSum(CorrectionSettings())
    with pytest.raises(FrameError, match="no image to sum"):
        total.result()
    total.add(np.ones((2, 2)))
    with pytest.raises(FrameError, match="in one sum"):
        total.add(np.ones((2, 3)))


@pytest.mark.slow
def test_a_sum_is_analysed_like_one_long_exposure(tmp_path: Path) -> None:
    """Mean and variance of a cell, with a dark and a flat, against many repetitions."""
    rng = np.random.default_rng(2)
    flat = rng.uniform(0.8, 1.2, SHAPE)
    np.save(tmp_path / "dark.npy", np.full(SHAPE, 30.0))
    np.save(tmp_path / "flat.npy", flat)
    analyse = pipeline(tmp_path, dark="dark.npy", flat="flat.npy", saturation=1000, gain=1.0)

    def frame(exposures: int) -> np.ndarray:
        return rng.poisson(50.0 * flat + 30.0, (exposures, *SHAPE)).astype(np.uint16)

    polars = [analyse(summed(frame(4), saturation=1000), exposures=4).polar for _ in range(60)]
    seen = np.isfinite(polars[0].intensity) & (polars[0].pixels > 3)
    mean = np.mean([p.intensity[seen] for p in polars])
    assert mean == pytest.approx(200.0, rel=2e-3)
    scatter = np.var([p.intensity[seen] for p in polars], axis=0, ddof=1)
    stated = np.mean([p.variance[seen] for p in polars], axis=0)
    # The dark's own error, four times that of one dark of 30 counts, does not vary here.
    counted, dark = 4 * (50 + 30), 4**2 * 30
    assert np.median(scatter / stated) == pytest.approx(counted / (counted + dark), rel=0.1)


def test_sums_are_another_result(tmp_path: Path) -> None:
    hashes = {pipeline(tmp_path, sum_frames=n).provenance.result_hash for n in (1, 2, 3)}
    assert len(hashes) == 3


def test_the_dark_of_a_run_replaces_that_of_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    frame = rng.poisson(80, SHAPE).astype(np.int32)
    stack = rng.poisson(30, (6, *SHAPE)).astype(np.int32)
    np.save(tmp_path / "dark.npy", stack)
    from_file = pipeline(tmp_path, dark="dark.npy")
    from_run = pipeline(tmp_path, dark={"stream": "dark"})
    dark = Dark.of(stack, CorrectionSettings())
    one, other = from_file(frame).polar, from_run(frame, dark=dark).polar
    np.testing.assert_allclose(other.intensity, one.intensity, rtol=1e-6)
    np.testing.assert_allclose(other.variance, one.variance, rtol=1e-5)
    assert from_file.provenance.result_hash != from_run.provenance.result_hash
    # The next dark of the same run takes its place without new maps.
    lower = Dark.of(stack // 2, CorrectionSettings())
    assert np.nanmean(from_run(frame, dark=lower).polar_image) > np.nanmean(other.intensity) + 10
    assert from_run.maps_built == 1
    with pytest.raises(FrameError, match="from the stream 'dark' of the run"):
        from_run(frame)
    with pytest.raises(FrameError, match="the dark has shape"):
        from_run(frame, dark=Dark.of(stack[:, :-1], CorrectionSettings()))


def test_pixels_that_the_dark_does_not_know_are_no_data(tmp_path: Path) -> None:
    frame = np.full(SHAPE, 80, np.uint16)
    stack = np.full((1, *SHAPE), 30, np.uint16)
    stack[0, 60:110, 20:140] = 65535  # on both sides of the beam
    found = pipeline(tmp_path, dark={"stream": "dark"})(
        frame, dark=Dark.of(stack, CorrectionSettings())
    ).polar
    whole = pipeline(tmp_path, dark={"stream": "dark"})(
        frame, dark=Dark.of(np.full_like(stack, 30), CorrectionSettings())
    ).polar
    assert np.isfinite(whole.intensity).sum() > np.isfinite(found.intensity).sum()
    seen = np.isfinite(found.intensity)
    np.testing.assert_allclose(found.intensity[seen], 50.0, rtol=1e-5)
    assert np.isfinite(found.variance[seen]).all()

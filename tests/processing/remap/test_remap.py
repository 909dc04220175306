"""What the remap promises: means, variances and counts of data, and nothing of what is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gixi_bluesky.errors import FrameError, GeometryError
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.geometry.intensity_factors import (
    polarization_factor,
    solid_angle_factor,
)
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings, GridSettings

SHAPE = (161, 201)
GEOMETRY = Geometry(
    wavelength_angstrom=1.0,
    distance_m=0.2,
    pixel_size_m=(1e-3, 1e-3),
    poni_m=(0.0108, 0.0812),
    incidence_angle_rad=np.radians(0.5),
)
UNCORRECTED = CorrectionSettings(solid_angle=False, polarization=None)
# Cells narrower than a pixel, and cells of several pixels.
FINE = GridSettings(q_max_inv_angstrom=3.5, shape=(96, 160))
COARSE = GridSettings(q_max_inv_angstrom=3.5, shape=(32, 40))
GRIDS = pytest.mark.parametrize("grid", [FINE, COARSE], ids=["fine", "coarse"])


def remapper(
    grid: GridSettings = FINE, mask: np.ndarray | None = None, **change: object
) -> Remapper:
    return Remapper(GEOMETRY, grid.model_copy(update=change), UNCORRECTED, SHAPE, mask)


def center_pixels(grid: GridSettings, sign: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Detector rows and columns of the cell centres."""
    q = np.linspace(0, grid.q_max_inv_angstrom, grid.shape[1])
    phi = np.radians(np.linspace(0, 90, grid.shape[0]))[:, None]
    return GEOMETRY.pixel_at(sign * q * np.cos(phi), q * np.sin(phi))


def q_of_pixels() -> tuple[np.ndarray, np.ndarray]:
    return GEOMETRY.q_at(*np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float))


@GRIDS
def test_a_cell_holds_the_value_of_its_place(grid: GridSettings) -> None:
    q_xy, q_z = q_of_pixels()
    polar = remapper(grid)(np.hypot(q_xy, q_z))
    data = np.isfinite(polar.intensity)
    assert data.mean() > 0.5
    step = polar.q[1]
    # A pixel is 0.031 1/angstrom; the mean of a few lies within half a cell and half a pixel.
    assert np.nanmax(np.abs(polar.intensity - polar.q)) < 0.5 * step + 0.016
    assert abs(np.nanmean(polar.intensity - polar.q)) < 0.05 * step
    angle = remapper(grid)(np.degrees(np.arctan2(q_z, np.abs(q_xy))))
    far = polar.q > 1.0
    assert abs(np.nanmean((angle.intensity - polar.phi[:, None])[:, far])) < 0.1


@pytest.mark.slow
@GRIDS
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_masked_constant_frame_stays_constant(grid: GridSettings, data: st.DataObject) -> None:
    mask = data.draw(hnp.arrays(bool, SHAPE, elements=st.booleans(), fill=st.just(False)))
    row, column, height, width = (data.draw(st.integers(0, 150)) for _ in range(4))
    mask[row : row + height, column : column + width] = True
    frame = np.where(mask, 1e6, 7.0)
    polar = remapper(grid, mask)(frame)
    seen = np.isfinite(polar.intensity)
    np.testing.assert_allclose(polar.intensity[seen], 7.0, rtol=1e-5)
    np.testing.assert_array_equal(seen, polar.pixels > 0)


@GRIDS
@pytest.mark.parametrize("dtype", ["int32", "uint16", "float32", "float64"])
def test_gaps_never_become_data(grid: GridSettings, dtype: str) -> None:
    frame = np.full(SHAPE, 7, dtype)
    gap = {"int32": -2, "uint16": 65535, "float32": np.nan, "float64": np.inf}[dtype]
    frame[60:80] = gap
    polar = remapper(grid, side="right")(frame)
    assert np.nanmin(polar.intensity) == pytest.approx(7)
    assert np.nanmax(polar.intensity) == pytest.approx(7)
    rows, _ = center_pixels(grid)
    inside = (rows > 63) & (rows < 76)
    assert inside.any()
    assert np.isnan(polar.intensity[inside]).all()
    assert np.isnan(polar.variance[inside]).all()
    assert not polar.pixels[inside].any()


@GRIDS
def test_a_gap_is_the_same_whether_masked_or_marked(grid: GridSettings) -> None:
    frame = np.random.default_rng(0).poisson(50, SHAPE).astype(np.int32)
    mask = np.zeros(SHAPE, bool)
    mask[60:80] = mask[:, 120] = True
    masked = remapper(grid, mask)(frame)
    marked = remapper(grid)(np.where(mask, -1, frame).astype(np.int32))
    both = np.isfinite(masked.intensity) & np.isfinite(marked.intensity)
    # Blocks of pixels with a gap in them are averaged as a whole or pixel by pixel.
    assert np.mean(np.isfinite(masked.intensity) == np.isfinite(marked.intensity)) > 0.99
    assert np.corrcoef(masked.intensity[both], marked.intensity[both])[0, 1] > 0.95


@GRIDS
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e8])
def test_one_bad_pixel_stays_local(grid: GridSettings, value: float) -> None:
    frame = np.random.default_rng(0).normal(50, 7, SHAPE).astype(np.float32)
    remap = remapper(grid, side="right")
    clean = remap(frame)
    bad = frame.copy()
    bad[90, 130] = value
    polar = remap(bad)
    q_xy, q_z = GEOMETRY.q_at(90.0, 130.0)
    q = np.hypot(q_xy, q_z)
    near = (np.abs(polar.q - q) < polar.q[1] + 0.1) & (
        np.abs(polar.phi[:, None] - np.degrees(np.arctan2(q_z, q_xy))) < polar.phi[1] + 3
    )
    np.testing.assert_allclose(polar.intensity[~near], clean.intensity[~near], rtol=1e-6)
    if not np.isfinite(value):
        changed = np.isfinite(polar.intensity) & near
        assert changed.any()
        assert np.nanmax(np.abs(polar.intensity - clean.intensity)[changed]) < 50
    # The next frame is not harmed.
    np.testing.assert_array_equal(remap(frame).intensity, clean.intensity)


@GRIDS
def test_off_the_detector_the_wedge_and_below_the_horizon_are_no_data(grid: GridSettings) -> None:
    polar = remapper(grid, side="right")(np.ones(SHAPE, np.float32))
    rows, columns = center_pixels(grid)
    beyond = ~((np.abs(rows - 80) <= 80.5) & (np.abs(columns - 100) <= 100.5))
    assert np.isnan(rows).any()
    assert np.isnan(polar.intensity[beyond]).all()
    q_z = polar.q * np.sin(np.radians(polar.phi))[:, None]
    below = q_z < GEOMETRY.horizon_q_z
    assert np.isnan(polar.intensity[below]).all()
    inside = (np.abs(rows - 80) < 78) & (np.abs(columns - 100) < 98)
    inside &= q_z > GEOMETRY.horizon_q_z + 0.05
    # Beside the wedge a cell may see less than half of itself.
    assert np.isfinite(polar.intensity[inside]).mean() > 0.99


def test_below_the_horizon_can_be_kept() -> None:
    geometry = GEOMETRY.with_incidence(3.0)
    kept, masked = (
        Remapper(geometry, FINE.model_copy(update={"below_horizon": rule}), UNCORRECTED, SHAPE)(
            np.ones(SHAPE, np.float32)
        )
        for rule in ("keep", "mask")
    )
    below = kept.q * np.sin(np.radians(kept.phi))[:, None] < geometry.horizon_q_z
    assert np.isfinite(kept.intensity[below]).mean() > 0.5
    assert not np.isfinite(masked.intensity[below]).any()


def test_counts_are_conserved() -> None:
    frame = np.random.default_rng(0).poisson(40, SHAPE).astype(np.int32)
    q_xy, q_z = q_of_pixels()
    polar = remapper(COARSE)(frame)
    column = np.rint(np.hypot(q_xy, q_z) / polar.q[1])
    inside = (column >= 4) & (column <= 30) & (q_z > GEOMETRY.horizon_q_z)
    total = np.nansum((polar.intensity * polar.pixels)[:, 4:31])
    # Cells cut by the horizon, the wedge or the edge lose their last pixels.
    assert total == pytest.approx(frame[inside].sum(), rel=0.03)
    assert total / polar.pixels[:, 4:31].sum() == pytest.approx(frame[inside].mean(), rel=0.003)


@GRIDS
@pytest.mark.parametrize("mean", [3.0, 200.0])
def test_the_variance_is_that_of_repeated_frames(grid: GridSettings, mean: float) -> None:
    rng = np.random.default_rng(0)
    remap = remapper(grid)
    polars = [remap(rng.poisson(mean, SHAPE).astype(np.uint32)) for _ in range(150)]
    scatter = np.var([p.intensity for p in polars], axis=0, ddof=1)
    stated = np.mean([p.variance for p in polars], axis=0)
    ratio = (scatter / stated)[np.isfinite(stated)]
    assert np.mean(ratio) == pytest.approx(1, abs=0.03)
    # 150 frames know a variance to 12 %.
    assert np.std(ratio) == pytest.approx(np.sqrt(2 / 149), rel=0.25)


def test_gain_and_readout_noise_enter_the_variance() -> None:
    rng = np.random.default_rng(0)
    corrections = UNCORRECTED.model_copy(update={"gain": 4.0, "readout_noise": 6.0})
    remap = Remapper(GEOMETRY, COARSE, corrections, SHAPE)
    polars = [remap(4.0 * rng.poisson(10, SHAPE) + rng.normal(0, 6, SHAPE)) for _ in range(150)]
    ratio = np.var([p.intensity for p in polars], axis=0, ddof=1) / polars[0].variance
    assert np.nanmean(ratio) == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_float_frames_without_gain_report_their_noise_by_their_scatter() -> None:
    rng = np.random.default_rng(0)
    grid = GridSettings(q_max_inv_angstrom=3.5, shape=(128, 256))
    shape = (644, 804)
    geometry = Geometry(1.0, 0.2, (2.5e-4, 2.5e-4), GEOMETRY.poni_m)
    remap = Remapper(geometry, grid, UNCORRECTED, shape)
    q = np.hypot(*geometry.q_at(*np.mgrid[: shape[0], : shape[1]].astype(float)))
    mean = 100 + 300 * np.exp(-0.5 * ((q - 2) / 0.05) ** 2)
    polars = [remap(3 * rng.poisson(mean / 3) + rng.normal(0, 9, shape)) for _ in range(60)]
    scatter = np.var([p.intensity for p in polars], axis=0, ddof=1)
    far = polars[0].q > 1
    for ring in (np.abs(polars[0].q - 2) < 0.03, far & (np.abs(polars[0].q - 2) > 0.2)):
        ratio = np.nanmean(scatter[:, ring]) / np.nanmean([p.variance[:, ring] for p in polars])
        assert ratio == pytest.approx(1, abs=0.15)


@GRIDS
def test_folding_averages_the_sides_by_their_pixels(grid: GridSettings) -> None:
    frame = np.random.default_rng(0).poisson(40, SHAPE).astype(np.int32)
    fold, right, left = (remapper(grid, side=side)(frame) for side in ("fold", "right", "left"))
    both = (right.pixels > 0) & (left.pixels > 0)
    assert both.mean() > 0.1
    mean = (right.intensity * right.pixels + left.intensity * left.pixels) / (
        right.pixels + left.pixels
    )
    # A cell that one side samples and the other bins is sampled on both when folded.
    same = np.isclose(fold.intensity, mean, rtol=1e-4)[both]
    assert same.mean() > 0.8
    assert np.mean((fold.intensity - mean)[both]) == pytest.approx(0, abs=0.1)
    only = (right.pixels > 0) & (left.pixels == 0) & (fold.pixels == right.pixels)
    np.testing.assert_allclose(fold.intensity[only], right.intensity[only], rtol=1e-5)


def test_memory_order_does_not_matter() -> None:
    frame = np.random.default_rng(0).poisson(40, SHAPE).astype(np.float32)
    remap = remapper(FINE)
    expected = remap(frame)
    views = [
        np.flipud(np.flipud(frame).copy()),
        np.fliplr(np.fliplr(frame).copy()),
        np.flip(np.flip(frame).copy()),
        frame.T.copy().T,
        np.rot90(np.rot90(frame).copy(), -1),
        np.repeat(np.repeat(frame, 2, 0), 3, 1)[::2, ::3],
        np.asfortranarray(frame),
    ]
    for view in [*views, frame]:
        np.testing.assert_allclose(remap(view).intensity, expected.intensity, rtol=1e-5)


def test_corrections_divide_by_solid_angle_and_polarisation() -> None:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    lit = solid_angle_factor(GEOMETRY, rows, columns)
    lit = lit * polarization_factor(GEOMETRY, rows, columns, 0.99)
    polar = Remapper(GEOMETRY, FINE, CorrectionSettings(), SHAPE)(1000 * lit)
    data = np.isfinite(polar.intensity)
    np.testing.assert_allclose(polar.intensity[data], 1000, rtol=0.02)
    assert np.mean(polar.intensity[data]) == pytest.approx(1000, rel=2e-3)


def test_dummy_values_are_no_data_and_negatives_are_noise() -> None:
    corrections = UNCORRECTED.model_copy(update={"dummy": (-10.0,)})
    remap = Remapper(GEOMETRY, COARSE, corrections, SHAPE)
    frame = np.full(SHAPE, -3.0)
    frame[::3, ::3] = -10.0
    polar = remap(frame)
    seen = polar.intensity[np.isfinite(polar.intensity)]
    np.testing.assert_allclose(seen, -3, rtol=1e-5)
    assert np.nanmin(polar.variance) >= 0


def test_gaps_that_move_from_frame_to_frame_are_followed() -> None:
    frame = np.random.default_rng(0).poisson(40, SHAPE).astype(np.int32)
    remap = remapper(COARSE)
    first, second = frame.copy(), frame.copy()
    first[60:80] = -1
    second[:, 20:40] = -1
    expected = remapper(COARSE)(second)
    remap(first)
    remap(first)
    polar = remap(second)
    np.testing.assert_array_equal(polar.intensity, expected.intensity)
    np.testing.assert_array_equal(polar.pixels, expected.pixels)


def test_the_picture_shows_both_signs_of_q_xy() -> None:
    q_xy, q_z = q_of_pixels()
    image = remapper(FINE).q_map(q_xy + 100, shape=(60, 90))
    assert image.intensity.shape == (60, 90)
    assert image.q_xy[0] < -1
    assert image.q_xy[-1] > 1
    assert image.q_z[0] == 0
    step = image.q_xy[1] - image.q_xy[0]
    assert np.nanmax(np.abs(image.intensity - 100 - image.q_xy)) < step + 0.04
    again = remapper(FINE).q_map(q_z, (60, 90), q_xy_range=(0, 2), q_z_range=(0, 3))
    assert np.nanmax(np.abs(again.intensity - again.q_z[:, None])) < 0.08


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((161, 200)), r"has shape \(161, 200\) after turning; expected \(161, 201\)"),
        (np.zeros((2, *SHAPE)), "expected one image"),
        (np.zeros(SHAPE, complex), "complex128"),
        (np.full(SHAPE, np.nan), "no pixel on the grid is data"),
        (np.full(SHAPE, -1), "no pixel on the grid is data"),
    ],
)
def test_frames_that_cannot_be_are_refused(frame: np.ndarray, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        remapper(COARSE)(frame)


def test_set_ups_that_cannot_be_are_refused() -> None:
    with pytest.raises(GeometryError, match="at most 2k"):
        remapper(q_max_inv_angstrom=13.0)
    with pytest.raises(GeometryError, match="the mask has shape"):
        remapper(mask=np.zeros((3, 3), bool))
    with pytest.raises(GeometryError, match="no cell of the grid is data"):
        remapper(mask=np.ones(SHAPE, bool))
    away = Geometry(1.0, 0.2, (1e-3, 1e-3), (9.0, 9.0))
    with pytest.raises(GeometryError, match="no cell of the grid is data"):
        Remapper(away, COARSE, UNCORRECTED, SHAPE)


def test_a_stored_q_image_has_square_cells_over_the_range_of_the_detector() -> None:
    q_xy, _ = q_of_pixels()
    made = remapper(FINE)
    image = made.q_image(q_xy + 100)
    steps = np.diff(image.q_xy), np.diff(image.q_z)
    assert np.allclose(np.concatenate(steps), made.grid.q_max / 512)
    seen = np.isfinite(image.intensity)
    expected = np.broadcast_to(image.q_xy + 100, seen.shape)
    # Cells on the border of the missing wedge mix what lies far apart.
    assert (np.abs(image.intensity - expected)[seen] < 0.05).mean() > 0.999

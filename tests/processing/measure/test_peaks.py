"""Peaks of known shape, position and area under Poisson noise, gaps and edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gixi_bluesky.processing.measure.peaks import measure, surely_seen
from gixi_bluesky.processing.tables import BLENDED, CUT, FIT_FAILED, Peaks
from gixi_bluesky.processing.types import Detections, PolarImage

N_PHI, N_Q = 256, 512
Q = np.linspace(0, 3.9, N_Q)
PHI = np.linspace(0, 90, N_PHI)
DQ, DPHI = Q[1], PHI[1]
ROWS, COLUMNS = np.mgrid[:N_PHI, :N_Q]
TO_FWHM = 2 * np.sqrt(2 * np.log(2))


@dataclass(frozen=True)
class Made:
    """A Gaussian peak; lengths in bins; a ring when `row` is None."""

    column: float
    height: float
    sigma: float = 2.5
    row: float | None = None
    spread: float = 0.0

    @property
    def course(self) -> NDArray[np.float64]:
        if self.row is None:
            return np.ones(N_PHI)
        return np.exp(-0.5 * ((np.arange(N_PHI) - self.row) / self.spread) ** 2)

    @property
    def box(self) -> list[float]:
        half = self.sigma * TO_FWHM / 2
        if self.row is None:
            return [self.column - half, 0, self.column + half, N_PHI - 1]
        reach = 2 * self.spread
        return [self.column - half, self.row - reach, self.column + half, self.row + reach]

    @property
    def image(self) -> NDArray[np.float64]:
        bell = np.exp(-0.5 * ((COLUMNS - self.column) / self.sigma) ** 2)
        return self.height * bell * self.course[:, None]

    def area(self, first: int = 0, last: int = N_PHI - 1) -> float:
        """Integral over q (1/angstrom) and over phi (deg) within the rows of the box."""
        low, high = (max(round(self.box[1]), first), min(round(self.box[3]), last))
        return (
            self.height
            * self.sigma
            * np.sqrt(2 * np.pi)
            * self.course[low : high + 1].sum()
            * DQ
            * DPHI
        )


def background() -> NDArray[np.float64]:
    return 15 + 60 * np.exp(-COLUMNS / 150) + 4 * np.sin(ROWS / 60)


def noisy(
    mean: NDArray[np.float64],
    rng: np.random.Generator,
    hidden: NDArray[np.bool_] | None = None,
    pixels: float = 3.0,
) -> PolarImage:
    """Poisson counts of `pixels` detector pixels per bin, NaN where hidden."""
    counts = rng.poisson(mean * pixels)
    intensity = (counts / pixels).astype(np.float32)
    variance = (counts / pixels**2).astype(np.float32)
    weight = np.full(mean.shape, pixels, np.float32)
    if hidden is not None:
        intensity[hidden], variance[hidden], weight[hidden] = np.nan, 0, 0
    return PolarImage(intensity, variance, weight, Q, PHI)


def detections(made: list[Made]) -> Detections:
    scores = np.linspace(1, 0.5, len(made))
    return Detections(np.array([m.box for m in made], np.float32), scores.astype(np.float32))


def repeated(
    made: list[Made], n: int = 40, hidden: NDArray[np.bool_] | None = None
) -> list[pd.DataFrame]:
    """Return the table of each peak over n noisy frames."""
    rng = np.random.default_rng(7)
    mean = background() + sum(m.image for m in made)
    tables = [measure(noisy(mean, rng, hidden), detections(made)).frame() for _ in range(n)]
    return [pd.DataFrame([t.iloc[k] for t in tables]) for k in range(len(made))]


APART = [
    Made(60.3, 4.0),
    Made(120.2, 1.0),
    Made(180.7, 8.0, row=128, spread=25),
    Made(240.2, 25.0, row=60, spread=4),
    Made(300.4, 40.0, sigma=1.5),
    Made(370.0, 3.0, sigma=4.0, row=180, spread=30),
    Made(450.5, 0.4),
]


@pytest.fixture(scope="module")
def apart() -> list[pd.DataFrame]:
    return repeated(APART)


@pytest.mark.parametrize("k", range(len(APART)))
def test_q_is_unbiased_and_its_error_true(apart: list[pd.DataFrame], k: int) -> None:
    pulls = (apart[k].q - APART[k].column * DQ) / apart[k].q_error
    assert abs(pulls.mean()) < 0.6
    assert 0.6 < pulls.std() < 1.5


@pytest.mark.parametrize("k", range(len(APART)))
def test_intensity_is_unbiased_and_its_error_true(apart: list[pd.DataFrame], k: int) -> None:
    truth = APART[k].area()
    pulls = (apart[k].intensity - truth) / apart[k].intensity_error
    assert 0.65 < pulls.std() < 1.5
    uncertainty = apart[k].intensity.std() / np.sqrt(len(apart[k]))
    assert apart[k].intensity.mean() == pytest.approx(
        truth, abs=max(0.015 * truth, 3 * uncertainty)
    )
    assert apart[k].snr.mean() == pytest.approx(
        (apart[k].intensity / apart[k].intensity_error).mean()
    )


def test_strong_intensities_are_right_to_a_percent(apart: list[pd.DataFrame]) -> None:
    for k in (0, 2, 3, 4):
        assert apart[k].intensity.mean() == pytest.approx(APART[k].area(), rel=0.015), k


def test_kinds_widths_and_angles(apart: list[pd.DataFrame]) -> None:
    kinds = [table.kind.iloc[0] for table in apart]
    assert kinds == ["ring", "ring", "segment", "spot", "ring", "segment", "ring"]
    for table, made in zip(apart, APART, strict=True):
        if made.height < 1:
            continue
        assert table.fwhm_q.mean() == pytest.approx(made.sigma * TO_FWHM * DQ, rel=0.1)
        if made.row is not None:
            assert table.phi.mean() == pytest.approx(made.row * DPHI, abs=0.5)
            assert table.fwhm_phi.mean() == pytest.approx(made.spread * TO_FWHM * DPHI, rel=0.1)


def test_components_backgrounds_and_flags_belong_to_the_peak(apart: list[pd.DataFrame]) -> None:
    for table, made in zip(apart, APART, strict=True):
        np.testing.assert_allclose(np.hypot(table.q_xy, table.q_z), table.q)
        np.testing.assert_allclose(np.degrees(np.arctan2(table.q_z, table.q_xy)), table.phi)
        rows = slice(round(made.box[1]), round(made.box[3]) + 1)
        under = background()[rows, round(made.column)].mean()
        assert table.background.mean() == pytest.approx(under, rel=0.03)
        assert (table.fit_flags & (CUT | BLENDED) == 0).all()


def test_gaps_across_a_peak_do_not_bias_it() -> None:
    """Module gaps along and across the peaks, and a horizon below them."""
    made = [Made(90.3, 5.0), Made(200.6, 10.0, row=120, spread=20), Made(330.0, 5.0, sigma=3.5)]
    hidden = (ROWS < 9) | ((ROWS > 108) & (ROWS < 118)) | ((COLUMNS > 331) & (COLUMNS < 335))
    for table, peak in zip(repeated(made, 30, hidden), made, strict=True):
        truth = peak.area(first=9)
        uncertainty = table.intensity.std() / np.sqrt(len(table))
        assert table.intensity.mean() == pytest.approx(
            truth, abs=max(0.02 * truth, 3 * uncertainty)
        )
        pulls = (table.q - peak.column * DQ) / table.q_error
        assert abs(pulls.mean()) < 0.6
        assert 0.6 < pulls.std() < 1.5


def test_overlapping_footprints_do_not_make_errors_too_small() -> None:
    """Noise shared by neighbouring bins, while the variance map speaks of each bin alone."""
    rng = np.random.default_rng(3)
    made = Made(240.4, 2.0)
    mean = 100 + made.image
    found = []
    for _ in range(30):
        blurred = gaussian_filter(rng.normal(0, 10, mean.shape), 0.8)
        own_variance = np.full(mean.shape, blurred.var(), np.float32)
        image = (mean + blurred).astype(np.float32)
        polar = PolarImage(image, own_variance, np.ones_like(image), Q, PHI)
        found.append(measure(polar, detections([made])).frame().iloc[0])
    table = pd.DataFrame(found)
    pulls = (table.intensity - made.area()) / table.intensity_error
    assert 0.6 < pulls.std() < 1.5


@pytest.mark.parametrize("column", [1.0, N_Q - 2.0])
def test_a_peak_cut_by_the_edge_is_flagged(column: float) -> None:
    made = Made(column, 20.0)
    polar = noisy(background() + made.image, np.random.default_rng(1))
    row = measure(polar, detections([made])).frame().iloc[0]
    assert row.fit_flags & CUT
    assert abs(row.q - column * DQ) < 1.5 * DQ


def test_a_segment_that_runs_into_no_data_is_flagged() -> None:
    made = Made(250.0, 20.0, row=200, spread=15)
    polar = noisy(background() + made.image, np.random.default_rng(1), ROWS > 205)
    row = measure(polar, detections([made])).frame().iloc[0]
    assert row.fit_flags & CUT
    assert row.intensity == pytest.approx(made.area(last=205), rel=0.1)


def test_overlapping_peaks_are_separated_and_flagged() -> None:
    made = [Made(250.0, 20.0, sigma=2.0), Made(257.0, 10.0, sigma=2.0)]
    for table, peak in zip(repeated(made, 15), made, strict=True):
        assert (table.fit_flags & BLENDED).all()
        assert table.q.mean() == pytest.approx(peak.column * DQ, abs=0.1 * DQ)
        assert table.intensity.mean() == pytest.approx(peak.area(), rel=0.03)


def test_rows_keep_the_order_of_the_scores() -> None:
    polar = noisy(background(), np.random.default_rng(0))
    boxes = np.array([m.box for m in APART[:3]], np.float32)
    peaks = measure(polar, Detections(boxes, np.array([0.2, 0.9, 0.5], np.float32)))
    assert peaks.peak.tolist() == [0, 1, 2]
    assert peaks.score == pytest.approx([0.9, 0.5, 0.2])
    assert peaks.x0 == pytest.approx(boxes[[1, 2, 0], 0], abs=2.0)


def test_no_detections_give_an_empty_table() -> None:
    nothing = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))
    peaks = measure(noisy(background(), np.random.default_rng(0)), nothing)
    assert len(peaks) == 0
    assert isinstance(peaks, Peaks)


def test_a_box_without_data_is_flagged_and_poisons_nothing() -> None:
    hidden = (COLUMNS > 200) & (COLUMNS < 280)
    made = [Made(240.0, 20.0), Made(100.0, 20.0), Made(-40.0, 20.0), Made(800.0, 20.0)]
    polar = noisy(background() + made[1].image, np.random.default_rng(2), hidden)
    table = measure(polar, detections(made)).frame()
    for row in (0, 2, 3):
        assert table.fit_flags[row] & FIT_FAILED
        assert table.fit_flags[row] & CUT
        assert table.intensity[row] == 0
        assert table.snr[row] == 0
    assert abs(table.intensity[1] - made[1].area()) < 4 * table.intensity_error[1]
    kept = ["q", "q_error", "phi", "fwhm_q", "fwhm_phi", "snr", "intensity"]
    assert np.isfinite(table[kept].to_numpy()).all()


def test_an_image_without_any_data_and_one_without_counts() -> None:
    made = [Made(100.0, 1.0), Made(200.0, 1.0, row=100, spread=10)]
    everywhere = np.ones((N_PHI, N_Q), bool)
    dark = measure(noisy(background(), np.random.default_rng(0), everywhere), detections(made))
    empty = measure(noisy(0 * background(), np.random.default_rng(0)), detections(made))
    assert dark.intensity.tolist() == empty.intensity.tolist() == [0, 0]
    assert dark.snr.tolist() == empty.snr.tolist() == [0, 0]


def test_noise_alone_is_no_peak() -> None:
    rng = np.random.default_rng(11)
    made = [Made(c, 0.0) for c in (60.0, 150.0, 240.0, 330.0, 420.0)]
    snr = np.concatenate(
        [measure(noisy(background(), rng), detections(made)).snr for _ in range(12)]
    )
    assert abs(snr.mean()) < 0.6
    assert 0.5 < snr.std() < 1.6


def test_only_peaks_above_the_noise_are_reported() -> None:
    rng = np.random.default_rng(12)
    made = [Made(60.0, 4.0), Made(150.0, 0.0), Made(240.0, -3.0), Made(330.0, 4.0)]
    mean = background() + 5 + sum(m.image for m in made)
    measured = measure(noisy(mean, rng), detections(made))
    assert measured.snr[2] < -5
    reported = surely_seen(measured)
    assert reported.peak.tolist() == list(range(len(reported)))
    assert (reported.snr >= 2).all()
    np.testing.assert_allclose(reported.x0[[0, -1]], [made[0].box[0], made[3].box[0]], atol=0.5)


def test_the_box_of_the_table_is_the_measured_one() -> None:
    """A detector's box that is too wide and not tall enough comes back as the convention says."""
    made = Made(200.0, 60.0, sigma=2.5, row=120.0, spread=6.0)
    x0, y0, x1, y1 = made.box
    rough = np.array([[x0 - 1.5, y0 + 5, x1 + 2.0, y1 - 4]], np.float32)
    polar = noisy(background() + made.image, np.random.default_rng(3))
    row = measure(polar, Detections(rough, np.ones(1, np.float32))).frame().iloc[0]
    assert [row.x0, row.x1] == pytest.approx([x0, x1], abs=0.4)
    assert [row.y0, row.y1] == pytest.approx([y0, y1], abs=3.0)
    assert abs(row.y0 - y0) < abs(rough[0, 1] - y0)


def test_a_ring_keeps_its_rows_and_a_failed_fit_its_box() -> None:
    ring = Made(200.0, 60.0)
    hidden = np.zeros((N_PHI, N_Q), bool)
    hidden[:, 290:320] = True
    lost = np.array([300.0, 40.0, 306.0, 60.0])
    boxes = np.array([ring.box, lost], np.float32)
    polar = noisy(background() + ring.image, np.random.default_rng(4), hidden)
    table = measure(polar, Detections(boxes, np.array([0.9, 0.8], np.float32))).frame()
    assert table.loc[0, ["y0", "y1"]].tolist() == [0, N_PHI - 1]
    assert table.loc[1, ["x0", "y0", "x1", "y1"]].tolist() == lost.tolist()


def test_graininess_is_the_root_of_cells_over_crystallites_and_none_of_texture() -> None:
    rng = np.random.default_rng(5)
    made = Made(200.0, 60.0)
    course = 1 + 0.4 * np.cos(np.arange(N_PHI) / N_PHI * 2.5)
    smooth = background() + made.image * course[:, None]
    number = 200
    crystallites = np.bincount(rng.integers(N_PHI, size=number), minlength=N_PHI)
    grainy = background() + made.image * (crystallites * N_PHI / number)[:, None]
    tables = [measure(noisy(mean, rng), detections([made])).frame() for mean in (smooth, grainy)]
    assert tables[0].graininess[0] < 0.03
    # 32 cells along phi, Poisson's scatter of the crystallites in each
    assert tables[1].graininess[0] == pytest.approx(np.sqrt(32 / number), rel=0.4)
    spot = Made(200.0, 60.0, row=120.0, spread=4.0)
    table = measure(noisy(background() + spot.image, rng), detections([spot])).frame()
    assert table.kind[0] == "spot"
    assert np.isnan(table.graininess[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_many_boxes_of_one_place_beside_a_gap_are_all_measured(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hidden = np.zeros((N_PHI, N_Q), bool)
    hidden[:, rng.integers(150, 250) : 260] = True
    column, width = 200 + rng.normal(0, 4, 24), rng.uniform(1, 10, 24)
    top, height = rng.uniform(0, N_PHI - 60, 24), rng.uniform(2, N_PHI / 2, 24)
    bottom = np.minimum(top + height, N_PHI - 1)
    boxes = np.stack([column - width / 2, top, column + width / 2, bottom], axis=1)
    found = Detections(boxes.astype(np.float32), rng.uniform(0, 1, 24).astype(np.float32))
    table = measure(noisy(background(), rng, hidden), found)
    assert len(table) == 24
    assert np.isfinite(table.q).all()


def test_a_ring_and_a_spot_of_its_q_are_both_measured() -> None:
    ring, spot = Made(200.0, 30.0), Made(200.3, 60.0, row=120.0, spread=5.0)
    polar = noisy(background() + ring.image + spot.image, np.random.default_rng(7))
    table = measure(polar, detections([spot, ring])).frame()
    assert (table.snr > 20).all()
    assert table.q.to_numpy() == pytest.approx(200 * DQ, abs=DQ)

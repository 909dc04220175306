"""Phases found from simulated peak lists: present, absent, strained, mixed, by chance."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from numpy.typing import NDArray
from peak_lists import (
    BY_SLUG,
    FIRST_Q,
    FRAME,
    LAST_Q,
    NOISE,
    SETTINGS,
    STRUCTURES,
    peak_table,
    powder,
)

from gixi_bluesky.processing.match.bayes_factors import Claims, MatchLimits, trials
from gixi_bluesky.processing.match.line_library import LineLibrary
from gixi_bluesky.processing.match.lines import (
    ExpectedLines,
    Features,
    visibility_of,
)
from gixi_bluesky.processing.match.phases import match
from gixi_bluesky.processing.settings import MatchingSettings
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks
from gixi_bluesky.processing.types import PolarImage


def found(peaks: Peaks, structures: tuple[Structure, ...] = STRUCTURES) -> dict[str, float]:
    matches, _ = match(peaks, structures, SETTINGS, FRAME)
    return dict(zip(matches.phase, matches.probability, strict=True))


def mean_probability(slug: str, lists: list[Peaks]) -> float:
    return float(np.mean([found(peaks).get(slug, 0.0) for peaks in lists]))


@pytest.mark.parametrize("slug", [s for s in BY_SLUG if s != "LaB6"])
def test_a_present_phase_is_sure_and_the_others_are_not(slug: str) -> None:
    probabilities = [found(powder({slug: 1.0}, seed, false=2)) for seed in range(10)]
    assert np.mean([p[slug] for p in probabilities]) > 0.95
    for p in probabilities:
        others = {other: value for other, value in p.items() if other != slug}
        assert max(others.values()) < 0.3, others


def test_a_phase_whose_lines_another_also_has_is_named_first() -> None:
    """LaB6 has the even lines of CsPbBr3 to 0.1 %: their own lines must decide."""
    lists = [powder({"LaB6": 1.0}, seed) for seed in range(20)]
    assert mean_probability("LaB6", lists) > 0.6
    assert mean_probability("CsPbBr3", lists) < 0.4
    assert mean_probability("LaB6", [powder({"CsPbBr3": 1.0}, s) for s in range(20)]) < 0.3


@pytest.mark.parametrize(
    "mixture",
    [
        {"MAPbBr3": 1.0, "PbI2": 1.0},
        {"MAPbBr3": 1.0, "PbBr2": 0.5},
        {"FAPbI3": 1.0, "FAPbI3-delta": 1.0},
        {"MAPbI3": 1.0, "PbI2": 1.0},
    ],
)
def test_both_phases_of_a_mixture_are_found(mixture: dict[str, float]) -> None:
    probabilities = [found(powder(mixture, seed, false=1)) for seed in range(8)]
    for slug in mixture:
        assert np.mean([p.get(slug, 0) for p in probabilities]) > 0.8, slug
    absent = [max(v for s, v in p.items() if s not in mixture) for p in probabilities]
    assert np.mean(absent) < 0.15


@pytest.mark.parametrize("lattice_scale", [0.995, 1.005])
def test_half_a_percent_of_strain_is_measured(lattice_scale: float) -> None:
    peaks = powder({"MAPbI3": 1.0}, 3, lattice_scale=lattice_scale)
    matches, _ = match(peaks, STRUCTURES, SETTINGS, FRAME)
    first = matches.frame().iloc[0]
    assert first.phase == "MAPbI3"
    assert first.probability > 0.9
    assert first.lattice_scale == pytest.approx(lattice_scale, abs=4 * first.lattice_scale_error)
    assert first.lattice_scale_error < 0.001
    assert first.cell_c == pytest.approx(12.659 * lattice_scale, rel=0.001)
    assert first.cell_gamma == 90


def test_scale_errors_are_true() -> None:
    pulls = []
    for seed in range(40):
        matches, _ = match(powder({"MAPbBr3": 1.0}, seed), STRUCTURES, SETTINGS, FRAME)
        row = matches.frame().set_index("phase").loc["MAPbBr3"]
        pulls.append((row.lattice_scale - 1) / row.lattice_scale_error)
    assert abs(np.mean(pulls)) < 0.6
    assert 0.5 < np.std(pulls) < 1.8


def test_lattices_one_percent_apart_are_separated_even_with_a_loose_gate() -> None:
    loose = MatchingSettings(max_dq_inv_angstrom=0.1)
    for present, absent in (("MAPbBr3", "CsPbBr3"), ("CsPbBr3", "MAPbBr3")):
        for seed in range(10):
            peaks = powder({present: 1.0}, seed)
            matches, _ = match(peaks, STRUCTURES, loose, FRAME)
            p = dict(zip(matches.phase, matches.probability, strict=True))
            assert p[present] > 0.8
            assert p.get(absent, 0) < 0.2


def test_no_peaks_no_phase_but_no_certainty_either() -> None:
    matches, rows = match(Peaks.empty(), STRUCTURES, SETTINGS, FRAME)
    assert (matches.probability < 0.05).all()
    assert (matches.probability > 0).all()
    assert len(matches) >= 5
    assert len(rows) == 0


def test_no_structures_no_rows() -> None:
    matches, rows = match(powder({"PbI2": 1.0}, 0), (), SETTINGS, FRAME)
    assert isinstance(matches, Matches)
    assert isinstance(rows, MatchPeaks)
    assert len(matches) == len(rows) == 0


@pytest.mark.parametrize("slug", BY_SLUG)
def test_one_or_two_lines_are_no_proof(slug: str) -> None:
    lines = BY_SLUG[slug].reflections
    strongest = np.argsort(-lines.intensity)
    for n in (1, 2):
        q = sorted(lines.q[strongest[:n]])
        assert found(peak_table(q, [20 * NOISE] * n)).get(slug, 0) < 0.85


def test_a_missing_strong_line_counts_against_a_phase_and_a_foreign_peak_does_not() -> None:
    lines = BY_SLUG["MAPbBr3"].reflections
    seen = lines.intensity * 60 > 8
    q, intensity = lines.q[seen], 60 * NOISE * lines.intensity[seen]
    weak_proof = (lines.q[seen] > 1.3) & (lines.q[seen] < 2.7)
    part = found(peak_table(list(q[weak_proof]), list(intensity[weak_proof])))["MAPbBr3"]
    blind = FRAME.intensity.copy()
    blind[:, (FRAME.q < 1.3) | (FRAME.q > 2.7)] = np.nan
    hidden = PolarImage(blind, FRAME.variance, FRAME.pixels, FRAME.q, FRAME.phi)
    peaks = peak_table(list(q[weak_proof]), list(intensity[weak_proof]))
    matches, _ = match(peaks, STRUCTURES, SETTINGS, hidden)
    unseen = dict(zip(matches.phase, matches.probability, strict=True))["MAPbBr3"]
    assert part < unseen, "lines outside the data are not missing"
    whole = found(peak_table(list(q), list(intensity)))["MAPbBr3"]
    foreign = found(peak_table([*q, 0.45, 1.2], [*intensity, 20 * NOISE, 30 * NOISE]))["MAPbBr3"]
    assert whole > 0.99
    assert foreign > 0.98


@pytest.mark.slow
def test_random_peaks_prove_nothing() -> None:
    highest = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 30))
        q = np.sort(rng.uniform(FIRST_Q, LAST_Q, n))
        highest.append(
            max(found(peak_table(list(q), list(NOISE * rng.uniform(8, 200, n)))).values())
        )
    assert np.mean(np.array(highest) > 0.5) <= 0.05
    assert np.mean(np.array(highest) > 0.3) <= 0.08


@pytest.mark.slow
def test_probabilities_are_calibrated() -> None:
    """Of the verdicts near p, about the share p is true; here in two broad halves."""
    verdicts, truths = [], []
    for seed in range(120):
        rng = np.random.default_rng(1000 + seed)
        slugs = ["MAPbBr3", "FAPbI3", "PbI2", "PbBr2", "FAPbI3-delta"]
        present = [s for s in slugs if rng.random() < 0.3]
        peaks = powder(dict.fromkeys(present, 1.0), seed, snr=30.0, false=int(rng.integers(0, 6)))
        chosen = tuple(BY_SLUG[s] for s in slugs)
        for slug, probability in found(peaks, chosen).items():
            verdicts.append(probability)
            truths.append(slug in present)
    verdict, truth = np.array(verdicts), np.array(truths)
    assert truth[verdict > 0.9].mean() > 0.95
    assert truth[verdict < 0.1].mean() < 0.15
    assert np.mean((verdict - truth) ** 2) < 0.06, "Brier score; 0.21 = knowing the prior alone"


def test_assigned_lines_and_their_distances() -> None:
    a = 5.9328
    q = [2 * np.pi / a * np.sqrt(n) for n in (1, 2, 4, 5, 6, 8, 9)]
    shifted = [q[0] + 0.002, *q[1:]]
    matches, rows = match(peak_table(shifted, [50 * NOISE] * 7), STRUCTURES, SETTINGS, FRAME)
    table = rows.frame()
    table = table[table.phase == "MAPbBr3"]
    hkl = [tuple(row) for row in table[["h", "k", "l"]].to_numpy()]
    assert hkl == [(1, 0, 0), (1, 1, 0), (2, 0, 0), (2, 1, 0), (2, 1, 1), (2, 2, 0), (2, 2, 1)]
    assert table.peak.tolist() == list(range(7))
    expected = np.array(q) / matches.lattice_scale[0] + matches.zero_error[0]
    np.testing.assert_allclose(table.dq, np.array(shifted) - expected, atol=1e-9)
    assert abs(table.dq).argmax() == 0
    assert 0.0005 < table.dq.iloc[0] < 0.002


def test_spots_of_one_ring_are_one_line_with_many_peaks() -> None:
    lines = BY_SLUG["MAPbBr3"].reflections
    rings = list(lines.q[lines.intensity > 0.25])
    q = [value + jitter for value in rings for jitter in (-0.0005, 0.0, 0.0004)]
    matches, rows = match(peak_table(q, [30 * NOISE] * len(q)), STRUCTURES, SETTINGS, FRAME)
    assert matches.phase[0] == "MAPbBr3"
    assert matches.n_matched[0] == len(rings)
    assert (rows.phase == "MAPbBr3").sum() == len(q)


def test_rows_are_ordered_complete_and_named() -> None:
    matches, rows = match(powder({"PbI2": 1.0}, 0), STRUCTURES, SETTINGS, FRAME)
    table = matches.frame()
    assert table.probability.is_monotonic_decreasing
    assert table.probability.between(0, 1).all()
    assert len(table) >= 5
    assert (table.n_matched <= table.n_expected).all()
    assert table.intensity_fraction.between(0, 1 + 1e-12).all()
    assert table[["contact_h", "contact_k", "contact_l", "mosaic_deg"]].isna().all(axis=None)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", slug) for slug in table.phase)
    likely = set(table.phase[table.probability >= 0.05])
    assert set(rows.phase) <= likely


def brute_force(likelihood: NDArray[np.float64]) -> float:
    """Return the best product over all one-to-one assignments of lines to features."""
    n_lines, n_features = likelihood.shape
    best = 0.0
    for chosen in itertools.product(range(n_features + 1), repeat=n_lines):
        used = [c for c in chosen if c < n_features]
        if len(used) != len(set(used)):
            continue
        pairs = [(line, c) for line, c in enumerate(chosen) if c < n_features]
        if all(likelihood[pair] > 0 for pair in pairs):
            best = max(best, sum(np.log(likelihood[pair]) + 50 for pair in pairs))
    return best


def test_pairs_are_the_best_of_all_assignments() -> None:
    """Against every assignment there is, for lines and peaks far enough to have one answer."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        q = np.cumsum(rng.uniform(0.06, 0.3, 5)) + 0.8
        kept = rng.random(5) > 0.25
        peaks = q[kept] + rng.normal(0, 0.003, kept.sum())
        peaks = np.sort(np.append(peaks, rng.uniform(2.6, 3.5, 1)))
        owner = np.zeros(5, np.int64)
        hkl, one = np.zeros((5, 3), np.int64), np.ones(5)
        lines = ExpectedLines(q, hkl, one, one, owner, np.zeros(5), np.zeros(5), np.zeros(5))
        features = Features(
            q=peaks,
            error=np.full(len(peaks), 0.001),
            fwhm=np.full(len(peaks), 0.01),
            intensity=np.full(len(peaks), 100.0),
            members=tuple(np.array([i]) for i in range(len(peaks))),
            density=3.0,
        )
        tried = trials(lines, features, MatchLimits(0.03, 0.0))
        weights = tried.weigh(Claims.none(len(peaks)))
        pairs = tried.pairs(0, int(weights.scale[0]), int(weights.amount[0]))
        sigma = np.hypot(0.001, 0.002 * q)[:, None]
        z = (peaks - q[:, None]) / sigma
        density = np.where(abs(z) < 3.5, np.exp(-0.5 * z**2) / sigma, 0)
        density[abs(peaks - q[:, None]) > 0.03] = 0
        ours = np.log(density[tried.line_of(pairs), tried.feature_of(pairs)]) + 50
        assert len(set(tried.line_of(pairs))) == len(pairs)
        assert len(set(tried.feature_of(pairs))) == len(pairs)
        assert ours.sum() == pytest.approx(brute_force(density))


def test_lines_that_cannot_be_seen_apart_are_expected_as_one() -> None:
    visibility = visibility_of(FRAME, powder({"MAPbI3": 1.0}, 0))
    lines = BY_SLUG["MAPbI3"].reflections
    expected = LineLibrary([BY_SLUG["MAPbI3"]]).expected(visibility)
    assert (np.diff(expected.q) > visibility.resolution / 2).all()
    assert expected.q.min() > FIRST_Q
    assert expected.q.max() < LAST_Q
    assert len(expected.q) < len(lines)

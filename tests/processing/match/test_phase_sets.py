"""Phases beside each other: rivals, shared and hidden lines, common errors, pieces of rings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from peak_lists import BY_SLUG, FRAME, FWHM, NOISE, SETTINGS, STRUCTURES, peak_table, powder

from gixi_bluesky.processing.evaluation.candidate_sets import constrained, strained
from gixi_bluesky.processing.match.bayes_factors import Claims, MatchLimits, trials
from gixi_bluesky.processing.match.line_library import LineLibrary
from gixi_bluesky.processing.match.lines import features_of, visibility_of
from gixi_bluesky.processing.match.phases import match
from gixi_bluesky.processing.match.zero_error import common_errors
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.tables import FIT_FAILED, Peaks


def probabilities(peaks: Peaks, structures: tuple[Structure, ...] = STRUCTURES) -> dict[str, float]:
    matches, _ = match(peaks, structures, SETTINGS, FRAME)
    return dict(zip(matches.phase, matches.probability, strict=True))


def twin(slug: str, name: str, change: float) -> Structure:
    """The same structure with a lattice that differs by less than matching can tell."""
    original = BY_SLUG[slug]
    moved = strained(original, constrained(original.cell, np.full(3, change)))
    return replace(moved, slug=name, name=name)


def test_a_rival_that_another_phase_explains_takes_nothing_away() -> None:
    """Beside MAPbI3, its twin is no rival of PbI2, whatever lines the twin shares with PbI2."""
    structures = (*STRUCTURES, twin("MAPbI3", "twin", 0.0005))
    alone, beside = [], []
    for seed in range(10):
        peaks = powder({"MAPbI3": 1.0, "PbI2": 0.6}, seed)
        alone.append(probabilities(peaks)["PbI2"])
        beside.append(probabilities(peaks, structures)["PbI2"])
    assert np.mean(alone) > 0.9
    assert np.mean(beside) > np.mean(alone) - 0.05


def test_twins_share_one_probability_and_are_one_group() -> None:
    structures = (*STRUCTURES, twin("PbI2", "twin", 0.0002))
    for seed in range(5):
        matches, _ = match(powder({"PbI2": 1.0}, seed), structures, SETTINGS, FRAME)
        table = matches.frame().set_index("phase")
        assert table.probability["PbI2"] + table.probability["twin"] == pytest.approx(1, abs=0.1)
        assert table.probability["twin"] > 0.1
        assert set(table.group["PbI2"].split(",")) == {"PbI2", "twin"}
        assert table.group["twin"] == table.group["PbI2"]
        assert table.group["LaB6"] == ""


def lines_of(slug: str, strength: float) -> tuple[list[float], list[float]]:
    lines = BY_SLUG[slug].reflections
    seen = (lines.q > 0.35) & (lines.q < 3.75) & (strength * lines.intensity > 12)
    return list(lines.q[seen]), list(NOISE * strength * lines.intensity[seen])


def test_a_line_in_the_flank_of_a_stronger_one_is_not_missing() -> None:
    """FAPbI3 without its strongest lines: hidden by strong neighbours, or plainly not there."""
    q, intensity = lines_of("FAPbI3", 80.0)
    order = np.argsort(intensity)[::-1]
    gone = set(order[:2].tolist())
    rest = [(a, b) for i, (a, b) in enumerate(zip(q, intensity, strict=True)) if i not in gone]
    missing = peak_table([a for a, _ in rest], [b for _, b in rest])
    flanks = [q[i] + 0.9 * FWHM for i in gone]
    hidden = peak_table(
        [*(a for a, _ in rest), *flanks], [*(b for _, b in rest), *[900 * NOISE] * 2]
    )
    assert probabilities(hidden)["FAPbI3"] > probabilities(missing)["FAPbI3"] + 0.1


def test_a_weak_line_does_not_explain_a_much_stronger_peak() -> None:
    """PbI2 is still found where weak lines of a sure phase lie under its strong ones."""
    q, intensity = lines_of("PbI2", 300.0)
    cell = BY_SLUG["MAPbBr3"]
    # A phase of strong own lines, whose weak ones (1 % of them) lie exactly on PbI2's strongest.
    own = np.array([0.62, 1.13, 1.31, 2.03, 2.21, 2.87])
    strongest = np.sort(np.array(q)[np.argsort(intensity)[::-1][:4]])
    lines = cell.reflections
    order = np.argsort(np.concatenate([own, strongest]))
    both = np.concatenate([own, strongest])[order]
    strength = np.concatenate([np.ones(6), np.full(4, 0.01)])[order]
    n = len(both)
    reflections = replace(
        lines, q=both, hkl=lines.hkl[:n], intensity=strength,
        multiplicity=lines.multiplicity[:n], families=lines.families[:n],
    )  # fmt: skip
    other = replace(cell, slug="other", name="other", reflections=reflections)
    peaks = peak_table([*q, *own], [*intensity, *[900 * NOISE] * 6])
    found = probabilities(peaks, (*STRUCTURES, other))
    assert found["other"] > 0.9
    assert found["PbI2"] > 0.9


@pytest.mark.parametrize("zero", [-0.003, 0.003])
def test_a_common_zero_error_is_found_and_does_not_cost_phases(zero: float) -> None:
    errors, sure = [], []
    for seed in range(8):
        peaks = powder({"MAPbI3": 1.0, "PbBr2": 0.7}, seed)
        moved = replace(peaks, q=peaks.q + zero)
        matches, _ = match(moved, STRUCTURES, SETTINGS, FRAME)
        table = matches.frame().set_index("phase")
        errors.append(table.zero_error.iloc[0] - zero)
        sure += [table.probability["MAPbI3"], table.probability["PbBr2"]]
    assert abs(np.mean(errors)) < 0.0015  # the prior pulls towards 0
    assert np.std(errors) < 0.001
    assert np.mean(sure) > 0.9


@pytest.mark.parametrize(("wobble", "low", "high"), [(0.0, 0.4, 0.7), (0.002, 0.75, 1.0)])
def test_the_scatter_of_the_lines_is_that_of_the_sure_phases(
    wobble: float, low: float, high: float
) -> None:
    """0.1 % of the simulation against an assumed 0.2 %, and more on top."""
    scatters = []
    for seed in range(6):
        peaks = powder({"MAPbBr3": 1.0, "PbBr2": 0.7}, seed)
        off = np.random.default_rng(seed).normal(0, wobble, len(peaks))
        peaks = replace(peaks, q=peaks.q * (1 + off))
        visibility = visibility_of(FRAME, peaks)
        lines = LineLibrary([BY_SLUG["MAPbBr3"], BY_SLUG["PbBr2"]]).expected(visibility)
        limits = MatchLimits(0.03, 0.01, zero_sigma=0.002)
        tried = trials(lines, features_of(peaks, visibility), limits)
        alone = tried.weigh(Claims.none(len(tried.features)))
        scatters.append(common_errors(tried, (0, 1), (alone.scale, alone.amount)).scatter)
    assert low <= np.median(scatters) <= high


def test_lab6_is_not_let_in_by_the_lines_of_mapbbr3() -> None:
    """Its cell times the square root of 2 is 0.9 % off: all its lines lie near others' lines."""
    highest = [
        probabilities(powder({"MAPbBr3": 1.0}, seed, snr=60.0, false=2)).get("LaB6", 0)
        for seed in range(60)
    ]
    assert max(highest) < 0.3


def test_pieces_of_one_ring_are_one_line() -> None:
    q = [1.5, 3.171, 3.179, 3.188]
    whole = peak_table(q, [50 * NOISE] * 4)
    phi = np.array([45.0, 15.0, 45.0, 75.0])
    pieces = replace(whole, phi=phi, fwhm_phi=np.array([90.0, 25.0, 25.0, 25.0]))
    visibility = visibility_of(FRAME, pieces)
    features = features_of(pieces, visibility)
    assert [len(m) for m in features.members] == [1, 3]
    assert features.q[1] == pytest.approx(3.179, abs=0.002)
    assert features.intensity[1] == pytest.approx(150 * NOISE)


def test_boxes_over_one_another_are_one_line_of_the_brightest() -> None:
    doubled = replace(
        peak_table([3.171, 3.179, 3.188, 3.25], [30 * NOISE, 50 * NOISE, 40 * NOISE, 20 * NOISE]),
        fwhm_phi=np.full(4, 70.0),
    )
    features = features_of(doubled, visibility_of(FRAME, doubled))
    assert [len(m) for m in features.members] == [3, 1]
    assert features.intensity[0] == pytest.approx(50 * NOISE)


def test_a_failed_fit_beside_a_fitted_peak_is_no_line_of_its_own() -> None:
    """As in the 220 of MAPbBr3: an area of 78 from a failed fit, of 36 from one that converged."""
    doubled = replace(
        peak_table([2.993, 3.008, 3.03], [78 * NOISE, 36 * NOISE, 30 * NOISE]),
        fit_flags=np.array([FIT_FAILED, 0, 0]),
        fwhm_q=np.array([0.0186, 0.0133, 0.0133]),
    )
    features = features_of(doubled, visibility_of(FRAME, doubled))
    assert [m.tolist() for m in features.members] == [[0, 1], [2]]
    assert features.intensity[0] == pytest.approx(36 * NOISE)
    assert features.q[0] == pytest.approx(3.008, abs=0.0025)
    alone = replace(doubled, phi=np.array([20.0, 70.0, 70.0]), fwhm_phi=np.full(3, 10.0))
    apart = features_of(alone, visibility_of(FRAME, alone))
    assert len(apart) == 3
    assert apart.intensity[0] == pytest.approx(78 * NOISE)


def test_no_probability_is_zero_or_one() -> None:
    peaks = powder({"MAPbBr3": 1.0}, 1, snr=5000.0)
    matches, _ = match(peaks, STRUCTURES, SETTINGS, FRAME)
    assert (matches.probability > 0).all()
    assert (matches.probability < 1).all()
    assert np.isfinite(matches.frame().probability).all()


def test_stacked_lines_are_those_of_each_structure_alone() -> None:
    visibility = visibility_of(FRAME, powder({"MAPbI3": 1.0}, 0))
    together = LineLibrary(STRUCTURES).expected(visibility)
    for index, structure in enumerate(STRUCTURES):
        alone = LineLibrary([structure]).expected(visibility)
        own = together.owner == index
        np.testing.assert_array_equal(together.q[own], alone.q)
        np.testing.assert_array_equal(together.hkl[own], alone.hkl)
        np.testing.assert_allclose(together.intensity[own], alone.intensity)
        assert together.intensity[own].max() == pytest.approx(1)

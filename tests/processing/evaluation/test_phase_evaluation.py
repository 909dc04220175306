"""The protocol that judges probabilities of phases: its frames, and its figures by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import gemmi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gixi_bluesky.processing.detector import load_detector
from gixi_bluesky.processing.evaluation import phase_scorecard
from gixi_bluesky.processing.evaluation.candidate_sets import (
    candidate_structures,
    constrained,
    strained,
)
from gixi_bluesky.processing.evaluation.figure import save_reliability
from gixi_bluesky.processing.evaluation.mixtures import Mixture, mixtures
from gixi_bluesky.processing.evaluation.phase_scorecard import area_under_curve, judge_phases
from gixi_bluesky.processing.evaluation.rendered_mixtures import rendered_mixtures
from gixi_bluesky.processing.simulation.texture import reciprocal_basis
from gixi_bluesky.processing.structures.cif_files import read_structures, shipped_cifs
from gixi_bluesky.processing.tables import Matches, MatchPeaks

CANDIDATES = candidate_structures(7, q_max=4.0)


@pytest.mark.slow
def test_at_least_a_hundred_different_candidates():
    assert len(CANDIDATES) >= 100
    assert len({c.slug for c in CANDIDATES}) == len(CANDIDATES)
    assert set(shipped_cifs()) - {c.name for c in CANDIDATES} <= {"FAPbI3-delta"}
    again = candidate_structures(7, q_max=4.0)
    assert all(
        np.array_equal(a.reflections.q, b.reflections.q)
        for a, b in zip(CANDIDATES, again, strict=True)
    )
    other = candidate_structures(8, q_max=4.0)
    assert not np.array_equal(CANDIDATES[-1].reflections.q, other[-1].reflections.q)


@pytest.mark.parametrize("slug", ["PbI2", "MAPbI3", "LaB6"])
def test_a_strained_structure_has_its_lines_where_the_cell_puts_them(slug):
    (structure,) = read_structures([shipped_cifs()[slug]], 3.0)
    cell = constrained(structure.cell, np.array([0.01, 0.02, -0.01]))
    moved = strained(structure, cell)
    unit = gemmi.UnitCell(*cell)
    expected = [2 * np.pi / unit.calculate_d(list(map(int, hkl))) for hkl in moved.reflections.hkl]
    np.testing.assert_allclose(moved.reflections.q, expected, rtol=1e-9)
    assert (np.diff(moved.reflections.q) >= 0).all()
    assert cell[0] == pytest.approx(structure.cell[0] * 1.01)
    if slug != "LaB6":
        assert cell[2] == pytest.approx(structure.cell[2] * 0.99)


@pytest.mark.slow
def test_frames_hold_what_they_say():
    frames = list(mixtures(3, 12, CANDIDATES))
    for frame in frames:
        weights = [p.weight for p in frame.present]
        assert 2 <= len(weights) <= 4
        assert sum(weights) == pytest.approx(1)
        assert min(weights) >= 0.05
        assert max(weights) <= 0.8
        assert (frame.peaks.q < frame.polar.q[-1] + 0.02).all()
        assert (frame.peaks.snr > 0).all()
    strongest = [max(p.n_visible for p in f.present) for f in frames]
    assert np.median(strongest) >= 5
    again = next(mixtures(3, 1, CANDIDATES))
    np.testing.assert_array_equal(again.peaks.q, frames[0].peaks.q)
    assert any(p.texture.contact is not None for f in frames for p in f.present)


@pytest.mark.slow
def test_an_image_of_a_mixture_is_searched_and_measured():
    (frame,) = rendered_mixtures(5, 1, CANDIDATES, load_detector("classical"))
    assert len(frame.peaks) > 3
    assert sum(p.n_visible for p in frame.present) > 3
    lines = np.concatenate([
        np.linalg.norm(p.structure.reflections.hkl @ reciprocal_basis(p.cell), axis=1)
        for p in frame.present
    ])  # fmt: skip
    strong = frame.peaks.snr > 30
    nearest = abs(frame.peaks.q[strong][:, None] - lines).min(axis=1)
    assert np.median(nearest) < 0.01


values = st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), min_size=1, max_size=8)


@given(values, values)
def test_area_under_the_curve_counts_pairs(present, absent):
    wins = [(p > a) + 0.5 * (p == a) for p in present for a in absent]
    assert area_under_curve(np.array(present), np.array(absent)) == pytest.approx(np.mean(wins))


def scripted(monkeypatch, said):
    def match(peaks, polar):
        rows = [{"phase": slug, "probability": p} for slug, p in said.items()]
        return Matches.from_rows(rows), MatchPeaks.empty()

    monkeypatch.setattr(phase_scorecard, "Matcher", lambda structures, settings: match)


def frame_of(frame, slugs):
    """The frame with the first of its candidates; the first `slugs` of them are present."""
    chosen = CANDIDATES[:5]
    present = tuple(replace(frame.present[0], structure=c, n_visible=6) for c in chosen[:slugs])
    return Mixture(frame.peaks, frame.polar, present, 0.0, chosen)


def test_the_figures_of_four_verdicts_by_hand(monkeypatch, tmp_path):
    frame = frame_of(next(mixtures(3, 1, CANDIDATES)), 2)
    a, b, c, d, _ = (s.slug for s in frame.candidates)
    scripted(monkeypatch, {a: 0.95, b: 0.35, c: 0.85, d: 0.05})
    card = judge_phases([frame, frame])
    # a right, b missed, c false; absent phases rank above b once in three.
    assert card.recall == 0.5
    assert card.precision == 0.5
    assert card.auc == pytest.approx(1 - 1 / 6)
    assert card.calibration_error == pytest.approx((0.05 + 0.65 + 0.85 + 0.05) / 5)
    assert card.calibration_error_reported == pytest.approx((0.05 + 0.65 + 0.85 + 0.05) / 4)
    assert card.highest_absent[2] == 0.85
    assert [(bin_.count, bin_.observed) for bin_ in card.calibration] == [
        (4, 0.0), (2, 1.0), (2, 0.0), (2, 1.0),
    ]  # fmt: skip
    assert json.loads(json.dumps(card.summary(), allow_nan=False))["frames"] == 2
    save_reliability(card, tmp_path / "new" / "reliability.png")
    assert (tmp_path / "new" / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_without_frames_nothing_can_be_said():
    summary = judge_phases([]).summary()
    assert summary["frames"] == 0
    assert summary["auc"] is None
    assert summary["crystals"]["length_error"] is None

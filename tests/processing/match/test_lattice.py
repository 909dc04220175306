"""Cells refined from simulated lines: right within their errors, or not determined."""

from __future__ import annotations

from dataclasses import replace

import gemmi
import numpy as np
import pytest
from peak_lists import BY_SLUG, FRAME, NOISE, SETTINGS, STRUCTURES, peak_table

from gixi_bluesky.processing.match.lattice import (
    HiddenLines,
    LineSet,
    free_parameters,
    refine_lattices,
)
from gixi_bluesky.processing.match.phases import match

ZERO_SIGMA = 0.002
NOTHING = HiddenLines.none()


def true_q(cell, hkl):
    return 2 * np.pi * np.sqrt(gemmi.UnitCell(*cell).calculate_1_d2_array(hkl.astype(np.int32)))


def lines(slug, cell, rng, *, zero=0.0, wobble=0.0, error=0.0002, chosen=None) -> LineSet:
    structure = BY_SLUG[slug]
    reflections = structure.reflections
    if chosen is None:
        chosen = np.argsort(-reflections.intensity)[:12]
    hkl = reflections.hkl[chosen]
    q = true_q(cell, hkl)
    seen = q + zero + rng.normal(0, error, len(q)) + q * rng.normal(0, wobble, len(q))
    return LineSet(
        cell=structure.cell, system=structure.crystal_system, hkl=hkl,
        q_cif=reflections.q[chosen], q=seen, error=np.full(len(q), error),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "system", "free"),
    [
        ((4, 4, 4, 90, 90, 90), "cubic", 1),
        ((4, 4, 5, 90, 90, 90), "tetragonal", 2),
        ((4, 4, 5, 90, 90, 120), "hexagonal", 2),
        ((5, 5, 5, 80, 80, 80), "trigonal", 2),
        ((4, 5, 6, 90, 90, 90), "orthorhombic", 3),
        ((4, 4, 6, 90, 90, 90), "orthorhombic", 3),
        ((4, 5, 6, 90, 100, 90), "monoclinic", 4),
        ((4, 5, 6, 90, 90, 90), "monoclinic", 4),
        ((4, 5, 6, 80, 100, 95), "triclinic", 6),
        ((4, 4, 4, 90, 90, 90), "", 1),
        ((4, 5, 6, 80, 100, 95), "", 6),
    ],
)
def test_symmetry_leaves_as_many_parameters_free(cell, system, free):
    assert free_parameters(cell, system).shape == (6, free)


def test_a_and_c_that_drift_apart_are_recovered_within_their_errors():
    rng = np.random.default_rng(0)
    structure = BY_SLUG["MAPbI3"]
    a0, c0 = structure.cell[0], structure.cell[2]
    pulls, off = [], []
    for strain in np.linspace(0, 0.005, 60):
        a, c = a0 * (1 + strain), c0 * (1 - 0.6 * strain)
        zero = float(rng.normal(0, ZERO_SIGMA))
        seen = lines("MAPbI3", (a, a, c, 90, 90, 90), rng, zero=zero)
        fit = refine_lattices([seen], NOTHING, ZERO_SIGMA)
        (lattice,) = fit.lattices
        pulls += [
            (lattice.cell[0] - a) / lattice.error[0],
            (lattice.cell[2] - c) / lattice.error[2],
        ]
        pulls.append((fit.zero - zero) / fit.zero_error)
        off.append(abs(lattice.cell[0] / a - 1))
    assert 0.8 < np.std(pulls) < 1.2
    assert abs(np.mean(pulls)) < 0.3
    assert np.median(off) < 2e-4


def test_errors_know_the_scatter_of_the_lines():
    """Lines that scatter ten times more than their own errors say: pulls stay about 1."""
    rng = np.random.default_rng(1)
    pulls = []
    for _ in range(80):
        cells = []
        for slug in ("PbBr2", "PbI2"):
            cell = np.array(BY_SLUG[slug].cell)
            strain = rng.normal(0, 0.003, 3)
            strain[1] = strain[0] if slug == "PbI2" else strain[1]
            cell[:3] *= 1 + strain
            cells.append(cell)
        sets = [
            lines(slug, cell, rng, wobble=1e-3, error=1e-4)
            for slug, cell in zip(("PbBr2", "PbI2"), cells, strict=True)
        ]
        fit = refine_lattices(sets, NOTHING, ZERO_SIGMA)
        for lattice, cell in zip(fit.lattices, cells, strict=True):
            pulls += list((lattice.cell - cell)[[0, 2]] / lattice.error[[0, 2]])
    assert 0.85 < np.std(pulls) < 1.25


def test_a_direction_without_lines_is_not_determined():
    rng = np.random.default_rng(2)
    structure = BY_SLUG["PbI2"]
    flat = np.flatnonzero(structure.reflections.hkl[:, 2] == 0)
    cell = (structure.cell[0] * 1.002, structure.cell[1] * 1.002, *structure.cell[2:])
    (lattice,) = refine_lattices(
        [lines("PbI2", cell, rng, chosen=flat)], NOTHING, ZERO_SIGMA
    ).lattices
    assert lattice.cell[0] == pytest.approx(cell[0], abs=4 * lattice.error[0])
    assert np.isnan(lattice.error[2])
    assert not np.isnan(lattice.error[[0, 1]]).any()
    assert lattice.error[3:].tolist() == [0, 0, 0]


def test_one_line_that_is_far_off_does_not_move_the_cell():
    rng = np.random.default_rng(3)
    cell = BY_SLUG["MAPbBr3"].cell
    seen = lines("MAPbBr3", cell, rng)
    seen.q[3] += 0.02
    (lattice,) = refine_lattices([seen], NOTHING, ZERO_SIGMA).lattices
    assert lattice.cell[0] == pytest.approx(cell[0], abs=4 * lattice.error[0])
    assert lattice.error[0] < 0.008


def test_nothing_accepted_is_no_fit():
    fit = refine_lattices([], NOTHING, ZERO_SIGMA)
    assert fit.lattices == ()
    assert fit.zero == 0


def test_the_table_holds_the_cell_and_its_errors():
    cell = (8.90, 8.90, 12.60, 90.0, 90.0, 90.0)
    reflections = BY_SLUG["MAPbI3"].reflections
    strong = (reflections.intensity > 0.1) & (reflections.q > 0.4) & (reflections.q < 3.7)
    q = np.sort(true_q(cell, reflections.hkl[strong]))
    apart = np.append(True, np.diff(q) > 0.02)
    peaks = peak_table(list(q[apart]), [60 * NOISE] * int(apart.sum()))
    matches, rows = match(peaks, STRUCTURES, SETTINGS, FRAME)
    first = matches.frame().iloc[0]
    assert first.phase == "MAPbI3"
    assert first.cell_a == pytest.approx(8.90, abs=4 * first.cell_a_error)
    assert first.cell_c == pytest.approx(12.60, abs=4 * first.cell_c_error)
    assert first.cell_a_error < 0.03
    assert first.cell_a == first.cell_b
    assert first.cell_alpha_error == 0
    mine = rows.frame()
    assert abs(mine[mine.phase == "MAPbI3"].dq).max() < 0.01


def test_lines_that_one_peak_hides_do_not_pull_the_cell() -> None:
    """002 and 110 of a tetragonal cell are one peak: it lies at neither of them."""
    structure = BY_SLUG["MAPbI3"]
    reflections = structure.reflections
    order = np.argsort(-reflections.intensity)[:30]
    order = np.sort(order[(reflections.q[order] > 0.3) & (reflections.q[order] < 3.8)])
    q, intensity = reflections.q[order], reflections.intensity[order] * 200 * NOISE
    apart = np.append(True, np.diff(q) > 0.016)
    starts = np.flatnonzero(apart)
    total = np.add.reduceat(intensity, starts)
    mean = np.add.reduceat(intensity * q, starts) / total
    assert (~apart).sum() >= 5
    off = []
    for seed in range(8):
        seen = mean + np.random.default_rng(seed).normal(0, 0.0003, len(mean))
        matches, _ = match(peak_table(seen.tolist(), total.tolist()), STRUCTURES, SETTINGS, FRAME)
        row = int(np.flatnonzero(matches.phase == "MAPbI3")[0])
        off += [matches.cell_a[row] / structure.cell[0] - 1]
        off += [matches.cell_c[row] / structure.cell[2] - 1]
    assert np.mean(np.reshape(off, (-1, 2)), axis=0) == pytest.approx([0, 0], abs=5e-4)


def test_peaks_of_several_lines_follow_all_of_them() -> None:
    """110 and 002, 220 and 004 are one peak each, and a and c have drifted apart."""
    rng = np.random.default_rng(4)
    structure = BY_SLUG["MAPbI3"]
    cell = np.array(structure.cell) * [1.005, 1.005, 0.997, 1, 1, 1]
    hkl = np.array([(1, 1, 0), (0, 0, 2), (2, 2, 0), (0, 0, 4), (2, 1, 1), (2, 0, 2), (2, 1, 3)])
    q, q_cif = true_q(cell, hkl), true_q(structure.cell, hkl)
    weak = np.array([1, 3])
    main = np.delete(np.arange(len(hkl)), weak)
    shown, phase, half = np.array([0, 1]), np.zeros(2, int), np.full(2, 0.5)
    hidden = HiddenLines(shown, phase, hkl[weak], q_cif[weak], half)
    pulls, together, alone = [], [], []
    for _ in range(40):
        strength = 0.5 * np.exp(rng.normal(0, 0.5, 2))
        seen = q.copy()
        seen[weak - 1] += (q[weak] - q[weak - 1]) * strength / (1 + strength)
        seen = seen[main] + rng.normal(0, 2e-4, len(main))
        of = LineSet(
            cell=structure.cell, system=structure.crystal_system, hkl=hkl[main],
            q_cif=q_cif[main], q=seen, error=np.full(len(main), 2e-4),
        )  # fmt: skip
        (lattice,) = refine_lattices([of], hidden, ZERO_SIGMA).lattices
        pulls += ((lattice.cell - cell)[[0, 2]] / lattice.error[[0, 2]]).tolist()
        together.append(lattice.cell[0] - cell[0])
        (lattice,) = refine_lattices([of], HiddenLines.none(), ZERO_SIGMA).lattices
        alone.append(lattice.cell[0] - cell[0])
    assert np.std(pulls) < 1.2
    assert abs(np.mean(pulls)) < 0.3
    assert abs(np.mean(together)) < 0.5 * abs(np.mean(alone))


def test_a_shifted_beam_moves_spots_by_where_they_lie() -> None:
    rng = np.random.default_rng(5)
    cell = BY_SLUG["MAPbBr3"].cell
    pulls = []
    for _ in range(40):
        seen = lines("MAPbBr3", cell, rng)
        phi = rng.uniform(0, np.pi / 2, len(seen.q))
        x, y = rng.normal(0, ZERO_SIGMA, 2)
        q = seen.q + x * np.cos(phi) + y * np.sin(phi)
        moved = replace(seen, q=q, tilt=np.cos(phi) - np.sin(phi))
        (lattice,) = refine_lattices([moved], NOTHING, ZERO_SIGMA).lattices
        pulls.append((lattice.cell[0] - cell[0]) / lattice.error[0])
        assert lattice.error[0] < 2e-3 * cell[0]
    assert 0.7 < np.std(pulls) < 1.3

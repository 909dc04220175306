"""Cells proposed for lines of known lattices, and none for lines at random places."""

import numpy as np
import pytest

from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs
from gixi_bluesky.processing.tracks.indexing import propose_cells

pytestmark = pytest.mark.slow

ERROR = 4e-4


def strongest_lines(name, count=9):
    lines = read_structure(shipped_cifs()[name], 3.2).reflections
    q = lines.q[np.sort(np.argsort(-lines.intensity)[:count])]
    q = q[np.concatenate([[True], np.diff(q) > 0.01])]
    return q + np.random.default_rng(0).normal(0, ERROR, len(q))


@pytest.mark.parametrize(
    ("name", "system", "cell"),
    [
        ("CsPbBr3", "cubic", (5.874, 5.874, 5.874)),
        ("MAPbI3", "tetragonal", (8.855, 8.855, 12.659)),
        ("PbI2", "hexagonal", (4.557, 4.557, 6.979)),
    ],
)
def test_the_cells_of_known_structures_are_proposed_first(name, system, cell):
    q = strongest_lines(name)
    found = propose_cells(q, np.full(len(q), ERROR))[0]
    assert found.system == system
    assert (found.a, found.b, found.c) == pytest.approx(cell, rel=3e-3)
    assert found.n_indexed == len(q)
    assert found.figure > 20
    assert found.decades > 8


def test_an_orthorhombic_cell_is_found_from_ten_lines():
    a, b, c = 4.9, 6.3, 8.1
    hkl = np.array([[0, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0], [1, 0, 1], [0, 0, 2], [1, 1, 0],
                    [1, 1, 1], [0, 2, 0], [2, 0, 0]])  # fmt: skip
    q = np.sort(2 * np.pi * np.sqrt((hkl**2 / np.array([a, b, c]) ** 2).sum(axis=1)))
    found = propose_cells(q, np.full(len(q), ERROR))[0]
    assert (found.system, found.centring) == ("orthorhombic", "P")
    assert (found.a, found.b, found.c) == pytest.approx((a, b, c), rel=1e-3)


def test_a_line_of_something_else_is_left_out():
    q = np.sort(np.append(strongest_lines("CsPbBr3"), 1.93))
    found = propose_cells(q, np.full(len(q), ERROR))[0]
    assert found.system == "cubic"
    assert found.a == pytest.approx(5.874, rel=2e-3)
    assert found.n_indexed == len(q) - 1


@pytest.mark.parametrize("n", [5, 8])
def test_lines_at_random_places_have_no_cell(n):
    rng = np.random.default_rng(n)
    proposed = 0
    for _ in range(4):
        q = np.sort(rng.uniform(0.7, 3.0, n))
        proposed += bool(propose_cells(q, np.full(n, ERROR)))
    assert proposed <= 1


def test_four_lines_are_too_few():
    q = strongest_lines("CsPbBr3")[:4]
    assert propose_cells(q, np.full(4, ERROR)) == []

"""Figures of cells, contact planes and mosaics, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gixi_bluesky.processing.evaluation.candidate_sets import candidate_structures
from gixi_bluesky.processing.evaluation.crystal_scorecard import (
    FoundCrystal,
    crystal_scorecard,
    found_crystals,
    same_plane,
)
from gixi_bluesky.processing.evaluation.mixtures import Mixture, mixtures
from gixi_bluesky.processing.simulation.texture import Texture
from gixi_bluesky.processing.tables import Matches

CUBIC = (5.9, 5.9, 5.9, 90.0, 90.0, 90.0)
TETRAGONAL = (8.8, 8.8, 12.7, 90.0, 90.0, 90.0)
CANDIDATES = candidate_structures(7, q_max=3.0, count=30)


@pytest.mark.parametrize(
    ("cell", "one", "other", "same"),
    [
        (CUBIC, (1, 0, 0), (0, 0, 1), True),
        (CUBIC, (1, 0, 0), (1, 1, 0), False),
        (TETRAGONAL, (1, 0, 0), (0, -1, 0), True),
        (TETRAGONAL, (1, 0, 0), (0, 0, 1), False),
        (TETRAGONAL, (1, 0, 1), (0, 1, -1), True),
    ],
)
def test_planes_are_the_same_where_the_lattice_makes_them_so(cell, one, other, same):
    assert same_plane(cell, one, other) == same


def frame_with(cell, texture) -> Mixture:
    frame = next(mixtures(3, 1, CANDIDATES))
    phase = replace(
        frame.present[0],
        structure=replace(CANDIDATES[0], cell=CUBIC),
        cell=cell,
        texture=texture,
        n_visible=9,
        n_off_axis=4,
    )
    return replace(frame, present=(phase,))


def row(probability: float = 0.9, **columns: float) -> Matches:
    table: Matches = Matches.from_rows(
        [
            {
                "phase": CANDIDATES[0].slug, "probability": probability,
                "cell_a": 6.003, "cell_b": 6.003, "cell_c": 6.003,
                "cell_a_error": 0.003, "cell_b_error": 0.003, "cell_c_error": np.nan,
                "contact_h": 1.0, "contact_k": 0.0, "contact_l": 0.0, "mosaic_deg": 5.0,
                **columns,
            }
        ]
    )  # fmt: skip
    return table


def test_a_found_phase_is_compared_with_the_true_one():
    cell = (6.0, 6.0, 6.0, 90.0, 90.0, 90.0)
    frame = frame_with(cell, Texture(contact=(0, 0, 1), mosaic_deg=2.0))
    (found,) = found_crystals(frame, row())
    assert found.strain == pytest.approx([0.0005, 0.0005])
    assert found.strain_error == pytest.approx([0.0005, 0.0005])
    assert found.right_plane
    assert found.mosaic == pytest.approx(5 / (2 * 2.3548), rel=1e-4)
    (wrong,) = found_crystals(frame, row(contact_k=1.0))
    assert wrong.right_plane is False
    assert wrong.mosaic is None
    (powder,) = found_crystals(frame_with(cell, Texture()), row())
    assert powder.right_plane is None
    assert list(found_crystals(frame, row(probability=0.4))) == []


def test_the_figures_of_three_phases():
    def crystal(strain, right, mosaic, n_visible=9):
        error = np.full(len(strain), 1e-4)
        return FoundCrystal(n_visible, np.array(strain), error, right, mosaic)

    card = crystal_scorecard(
        [
            crystal([2e-4, -1e-4], True, 1.1),
            crystal([3e-4], False, None),
            crystal([1.0], True, 1.2, n_visible=3),
        ]
    )
    assert (card.cells, card.fibres) == (2, 3)
    assert card.length_error == pytest.approx(2e-4)
    assert card.length_pull == pytest.approx(1.4826 * 2)
    assert card.right_planes == pytest.approx(2 / 3)
    assert card.right_mosaics == 0.5
    assert np.isnan(crystal_scorecard([]).length_error)

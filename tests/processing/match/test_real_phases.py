"""Phases, cells and contact planes of the real frames, among many wrong candidates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from known_structures import wrong_structures
from real_frames import FOREIGN_RING, LAB6, MAPBBR3, MAPI, lab6, mapbbr3, mapi, remapped

from gixi_bluesky.processing.detector import load_detector
from gixi_bluesky.processing.match.phases import Matcher
from gixi_bluesky.processing.measure.peaks import measure
from gixi_bluesky.processing.settings import MatchingSettings
from gixi_bluesky.processing.structures.cif_files import read_structures, shipped_cifs
from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.types import PolarImage

pytestmark = [
    pytest.mark.data,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:fabio"),
]
DETECTORS = pytest.mark.parametrize("name", ["default", "classical"])


def measured(polar: PolarImage, name: str) -> Peaks:
    detector = load_detector(name)
    (found,) = detector(detector.prepare(polar.intensity[None]))
    return measure(polar, found.above(0.5, 300))


def matcher(q_max: float) -> Matcher:
    structures = (*read_structures(shipped_cifs().values(), q_max), *wrong_structures(q_max))
    return Matcher(structures, MatchingSettings())


@pytest.mark.slow
@DETECTORS
def test_mapbbr3_among_more_than_fifty_wrong_candidates(shared_data: Path, name: str) -> None:
    polar = remapped(mapbbr3(shared_data), MAPBBR3)
    peaks = measured(polar, name)
    matches, rows = matcher(3.9)(peaks, polar)
    table = matches.frame().set_index("phase")
    assert table.probability["MAPbBr3"] > 0.99
    assert table.cell_a["MAPbBr3"] == pytest.approx(5.93, rel=0.003)
    assert table.drop("MAPbBr3").probability.max() < 0.05
    own = rows.frame()
    own = own[own.phase == "MAPbBr3"]
    hkl = {tuple(sorted(row, reverse=True)) for row in own[["h", "k", "l"]].to_numpy().tolist()}
    assert hkl >= {(1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 0, 0), (2, 1, 0), (2, 1, 1), (2, 2, 0)}
    foreign = np.flatnonzero(abs(peaks.q - FOREIGN_RING) < 0.01)
    assert not set(foreign.tolist()) & set(rows.peak.tolist())


@DETECTORS
def test_lab6_among_more_than_fifty_wrong_candidates(shared_data: Path, name: str) -> None:
    frame, mask = lab6(shared_data)
    polar = remapped(frame, LAB6, mask, q_max_inv_angstrom=3.6)
    matches, _ = matcher(3.6)(measured(polar, name), polar)
    table = matches.frame().set_index("phase")
    assert table.probability["LaB6"] > 0.95
    assert table.cell_a["LaB6"] == pytest.approx(4.1568, rel=0.003)
    assert table.drop("LaB6").probability.max() < 0.05


@pytest.mark.slow
def test_no_absent_phase_in_poisson_copies_of_the_binned_frame(shared_data: Path) -> None:
    """LaB6's cell times the square root of 2 is 0.9 % off: all its lines lie near MAPbBr3's.

    benchmarks/poisson_copies.py judges as many copies as one likes.
    """
    frame = mapbbr3(shared_data)
    binned = frame.reshape(frame.shape[0] // 2, 2, frame.shape[1] // 2, 2).sum(axis=(1, 3))
    row, column = MAPBBR3.beam_center_px or (0.0, 0.0)
    geometry = MAPBBR3.model_copy(
        update={
            "pixel_size_mm": (0.4, 0.4),
            "beam_center_px": ((row - 0.5) / 2, (column - 0.5) / 2),
        }
    )
    rng = np.random.default_rng(0)
    match = Matcher(read_structures(shipped_cifs().values(), 3.9), MatchingSettings())
    for _ in range(6):
        copy = rng.poisson(np.maximum(binned, 0)).astype(np.float32)
        polar = remapped(copy, geometry)
        matches, _ = match(measured(polar, "classical"), polar)
        table = matches.frame().set_index("phase")
        assert table.probability["MAPbBr3"] > 0.99
        assert table.cell_a["MAPbBr3"] == pytest.approx(5.93, rel=0.003)
        assert table.probability.drop("MAPbBr3").max() < 0.3


@pytest.mark.slow
def test_the_wet_film_and_its_spots_hold_none_of_many_wrong_phases(shared_data: Path) -> None:
    polar = remapped(mapi(shared_data, 160), MAPI, q_max_inv_angstrom=3.0)
    match = Matcher(wrong_structures(3.0), MatchingSettings())
    matches, _ = match(measured(polar, "default"), polar)
    assert matches.probability.max() < 0.5

"""Real frames, boxes put on the known rings: intensities and phases against the structures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from real_frames import FOREIGN_RING, MAPBBR3, MAPBBR3_RINGS, lab6, mapbbr3, remapped

from gixi_bluesky.processing.match.phases import match
from gixi_bluesky.processing.measure.peaks import measure
from gixi_bluesky.processing.settings import GeometrySettings, MatchingSettings
from gixi_bluesky.processing.structures.cif_files import read_structures, shipped_cifs
from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.types import Detections, PolarImage

pytestmark = pytest.mark.data

LAB6_RINGS = [1.5115, 2.1376, 2.6181, 3.0231]


def boxed(polar: PolarImage, rings: Sequence[float], width: float = 0.02) -> Peaks:
    """Measure boxes over the whole phi range, placed by hand a little off the rings."""
    step = polar.q[1] - polar.q[0]
    rng = np.random.default_rng(0)
    boxes = [
        [(q - polar.q[0] - width / 2) / step, 0, (q - polar.q[0] + width / 2) / step, 511]
        for q in np.array(rings) + rng.normal(0, 0.002, len(rings))
    ]
    scores = np.linspace(1, 0.9, len(boxes)).astype(np.float32)
    return measure(polar, Detections(np.array(boxes, np.float32), scores))


@pytest.fixture
def perovskite(shared_data: Path) -> PolarImage:
    return remapped(mapbbr3(shared_data), MAPBBR3)


@pytest.mark.slow
def test_mapbbr3_rings_have_the_intensities_of_the_structure(perovskite: PolarImage) -> None:
    peaks = boxed(perovskite, MAPBBR3_RINGS)
    assert (peaks.kind == "ring").all()
    np.testing.assert_allclose(peaks.q, MAPBBR3_RINGS, rtol=0.005)
    (structure,) = read_structures([shipped_cifs()["MAPbBr3"]], 3.9)
    lines = structure.reflections
    nearest = np.argmin(abs(lines.q - peaks.q[:, None]), axis=1)
    expected = lines.intensity[nearest]
    # the outermost rings are seen in part only, so their phi range is shorter
    whole = peaks.q < 3.3
    ratio = peaks.intensity[whole] / expected[whole]
    ratio /= np.median(ratio)
    assert (ratio > 0.6).all()
    assert (ratio < 1.7).all()


@pytest.mark.slow
def test_mapbbr3_is_recognised_and_no_other_phase(perovskite: PolarImage) -> None:
    structures = read_structures(shipped_cifs().values(), 3.9)
    peaks = boxed(perovskite, [FOREIGN_RING, *MAPBBR3_RINGS])
    matches, rows = match(peaks, structures, MatchingSettings(), perovskite)
    table = matches.frame().set_index("phase").probability
    assert table.index[0] == "MAPbBr3"
    assert table["MAPbBr3"] > 0.95
    assert table.drop("MAPbBr3").max() < 0.2
    assigned = rows.frame()
    assigned = assigned[assigned.phase == "MAPbBr3"]
    assert 0 not in set(assigned.peak), "the foreign ring has no hkl"
    assert len(assigned) == len(MAPBBR3_RINGS)


def test_lab6_is_recognised(shared_data: Path) -> None:
    frame, mask = lab6(shared_data)
    poni = next((shared_data / "lab6_cms_gi").glob("jun23*.poni"))
    settings = GeometrySettings(poni=poni, incidence_angle_deg=0.5, flip="vertical")
    polar = remapped(frame, settings, mask, q_max_inv_angstrom=3.2)
    peaks = boxed(polar, LAB6_RINGS)
    np.testing.assert_allclose(peaks.q, LAB6_RINGS, rtol=0.002)
    structures = read_structures(shipped_cifs().values(), 3.2)
    matches, _ = match(peaks, structures, MatchingSettings(), polar)
    assert matches.phase[0] == "LaB6"
    assert matches.probability[0] > 0.7

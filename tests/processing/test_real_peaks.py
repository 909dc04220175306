"""Real frames, boxes put on the known rings: intensities and phases against the structures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fabio
import numpy as np
import pytest

from gixi_bluesky.processing.geometry import Geometry, orient
from gixi_bluesky.processing.masks import load_mask
from gixi_bluesky.processing.matching import match
from gixi_bluesky.processing.peaks import measure
from gixi_bluesky.processing.remap import Remapper
from gixi_bluesky.processing.settings import (
    CorrectionSettings,
    GeometrySettings,
    GridSettings,
    MatchingSettings,
)
from gixi_bluesky.processing.structures import read_structures, shipped_cifs
from gixi_bluesky.processing.types import Detections, Peaks, PolarImage

pytestmark = pytest.mark.data

MAPBBR3 = [1.059, 1.498, 1.834, 2.118, 2.368, 2.594, 2.996, 3.177, 3.349, 3.669, 3.819]
FOREIGN = 0.454  # a weak ring that is not MAPbBr3
LAB6 = [1.5115, 2.1376, 2.6181, 3.0231]


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
def mapbbr3(shared_data: Path) -> PolarImage:
    frame = fabio.open(str(next((shared_data / "mapbbr3_p08").glob("*.tif*")))).data
    settings = GeometrySettings(
        wavelength_angstrom=0.6888,
        distance_mm=809.0,
        pixel_size_mm=(0.2, 0.2),
        beam_center_px=(222.0, 545.0),
        incidence_angle_deg=0.5,
        flip="vertical",
    )
    geometry = Geometry.from_settings(settings, frame.shape)
    remapper = Remapper(geometry, GridSettings(), CorrectionSettings(), frame.shape)
    return remapper(orient(frame, settings))


def test_mapbbr3_rings_have_the_intensities_of_the_structure(mapbbr3: PolarImage) -> None:
    peaks = boxed(mapbbr3, MAPBBR3)
    assert (peaks.kind == "ring").all()
    np.testing.assert_allclose(peaks.q, MAPBBR3, rtol=0.005)
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


def test_mapbbr3_is_recognised_and_no_other_phase(mapbbr3: PolarImage) -> None:
    structures = read_structures(shipped_cifs().values(), 3.9)
    peaks = boxed(mapbbr3, [FOREIGN, *MAPBBR3])
    matches, rows = match(peaks, structures, MatchingSettings(), mapbbr3)
    table = matches.frame().set_index("phase").probability
    assert table.index[0] == "MAPbBr3"
    assert table["MAPbBr3"] > 0.95
    assert table.drop("MAPbBr3").max() < 0.2
    assigned = rows.frame()
    assigned = assigned[assigned.phase == "MAPbBr3"]
    assert 0 not in set(assigned.peak), "the foreign ring has no hkl"
    assert len(assigned) == len(MAPBBR3)


def test_lab6_is_recognised(shared_data: Path) -> None:
    folder = shared_data / "lab6_cms_gi"
    frame = fabio.open(str(next(folder.glob("*.tiff")))).data
    settings = GeometrySettings(
        poni=next(folder.glob("jun23*.poni")), incidence_angle_deg=0.5, flip="vertical"
    )
    mask = load_mask(folder / "LaB6_SRM660c_Calib_Mask.edf", frame.shape)
    remapper = Remapper(
        Geometry.from_settings(settings, frame.shape),
        GridSettings(q_max_inv_angstrom=3.2),
        CorrectionSettings(),
        frame.shape,
        orient(mask, settings),
    )
    polar = remapper(orient(frame, settings))
    peaks = boxed(polar, LAB6)
    np.testing.assert_allclose(peaks.q, LAB6, rtol=0.002)
    structures = read_structures(shipped_cifs().values(), 3.2)
    matches, _ = match(peaks, structures, MatchingSettings(), polar)
    assert matches.phase[0] == "LaB6"
    assert matches.probability[0] > 0.7

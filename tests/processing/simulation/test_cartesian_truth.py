"""What there is to find on (q_xy, q_z): compact peaks where the product's own remap shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gixi_bluesky.processing.evaluation.average_precision import visible_peaks
from gixi_bluesky.processing.geometry.grids import CartesianGrid
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings, GeometrySettings, GridSettings
from gixi_bluesky.processing.simulation import (
    CartesianObserver,
    Component,
    Panel,
    Phase,
    Renderer,
    Rod,
    Scene,
    Texture,
)
from gixi_bluesky.processing.simulation.random_scenes import random_frames
from gixi_bluesky.processing.simulation.texture import phi_axis
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs

SHAPE = (500, 460)
Q_MAX, CELLS = 2.8, (256, 512)
GRID = CartesianGrid(Q_MAX, CELLS)


@pytest.fixture(scope="module")
def renderer():
    geometry = Geometry.from_settings(
        GeometrySettings(
            wavelength_angstrom=0.6888,
            distance_mm=360,
            pixel_size_mm=(0.344, 0.344),
            beam_center_px=(20, 90),
            incidence_angle_deg=0.3,
        ),
        SHAPE,
    )
    return Renderer(geometry, SHAPE)


@pytest.fixture(scope="module")
def observer(renderer):
    return CartesianObserver(renderer, Panel(), GRID)


@pytest.fixture(scope="module")
def remapper(renderer):
    return remapper_of(renderer)


def remapper_of(renderer, mask=None, side="fold"):
    grid = GridSettings(q_max_inv_angstrom=Q_MAX, shape=CELLS, space="cartesian", side=side)
    return Remapper(renderer.unrefracted, grid, CorrectionSettings(), SHAPE, mask)


@dataclass(frozen=True)
class Drawn:
    """A phase of the components that a test asks for."""

    parts: tuple[Component, ...]

    def components(self, rows):
        return iter(self.parts)


def arc(q, phi, fwhm_q=0.04, width=3.0, counts=1000.0):
    """A Gaussian at |q| and phi; `width` lies between its 13.5 % points, deg."""
    angular = np.exp(-0.5 * ((phi_axis(1024) - phi) / (width / 4)) ** 2)
    return Component("film", (1, 0, 0), q, fwhm_q, counts, angular)


def film(*parts, rods=()):
    return Scene(phases=(Drawn(parts),), air=0, flat=1, rods=rods)


def pixels(q_xy, q_z):
    return np.array([q_xy * (CELLS[1] - 1), q_z * (CELLS[0] - 1)]) / Q_MAX


compact = {
    "q": st.floats(0.5, 2.4),
    "phi": st.floats(12, 68),
    "fwhm": st.floats(0.03, 0.08),
    "width": st.floats(2, 9),
}


@settings(max_examples=30, deadline=None)
@given(**compact)
def test_a_spot_lies_in_the_middle_of_its_box(observer, q, phi, fwhm, width):
    found = observer.truth(film(arc(q, phi, fwhm, width)))
    (box,) = found.boxes
    middle = pixels(q * np.cos(np.radians(phi)), q * np.sin(np.radians(phi)))
    # A piece of a ring is bent: its box reaches a little farther out than in.
    bent = pixels(*(2 * [q * (1 - np.cos(np.radians(width / 2)))]))
    assert np.all(np.abs((box[:2] + box[2:]) / 2 - middle) <= bent + 0.5)
    assert found.q == pytest.approx([q])
    assert found.phi == pytest.approx([phi], abs=0.5)
    assert found.visible == pytest.approx([1.0])
    assert visible_peaks(found).all()


@settings(max_examples=12, deadline=None)
@given(**compact)
def test_the_box_is_what_the_remapped_frame_shows(
    renderer, observer, remapper, q, phi, fwhm, width
):
    """Its sides are half the maximum along q_xy and 13.5 % along q_z, of what the remap sums."""
    scene = film(arc(q, phi, fwhm, width))
    crystal = shown(renderer, remapper, scene)
    (box,) = observer.truth(scene).boxes
    ends = [*reach(crystal.sum(axis=0), 0.5), *reach(crystal.sum(axis=1), np.exp(-2.0))]
    bent = pixels(*(2 * [q * (1 - np.cos(np.radians(width / 2)))]))
    np.testing.assert_array_less(np.abs(box - np.array(ends)[[0, 2, 1, 3]]), np.tile(bent, 2) + 1.5)


def reach(profile, level):
    """First and last place where a profile reaches a share of its maximum, between the cells."""
    inside = np.flatnonzero(profile > level * profile.max())
    first, last = inside[0], inside[-1]
    wanted = level * profile.max()
    return (
        np.interp(wanted, profile[first - 1 : first + 1], [first - 1, first]),
        np.interp(-wanted, -profile[last : last + 2], [last, last + 1]),
    )


@settings(max_examples=8, deadline=None)
@given(
    q_xy=st.floats(0.4, 1.8),
    q_z=st.floats(0.6, 1.2),
    wide=st.floats(0.02, 0.06),
    tall=st.floats(0.08, 0.4),
)
def test_the_box_of_a_rod_is_upright_and_where_it_shines(
    renderer, observer, remapper, q_xy, q_z, wide, tall
):
    scene = film(rods=(Rod(q_xy, q_z, wide, tall, 500.0),))
    found = observer.truth(scene)
    crystal = shown(renderer, remapper, scene)
    box = found.boxes[0]
    row, column = np.round(pixels(q_xy, q_z)[::-1]).astype(int)
    ends = [*reach(crystal[row], 0.5), *reach(crystal[:, column], np.exp(-2.0))]
    np.testing.assert_allclose(box[[0, 2, 1, 3]], ends, atol=1.0)
    assert found.kind == ("segment",)
    assert found.q == pytest.approx([np.hypot(q_xy, q_z)])


def shown(renderer, remapper, scene):
    """What the product's remap shows of the film, without its background."""
    bright, dark = (remapper.cartesian(renderer.expected(one)).intensity for one in (scene, film()))
    return np.nan_to_num(bright - dark)


@pytest.mark.parametrize(("width", "fwhm_q"), [(14, 0.02), (25, 0.25)])
def test_short_arcs_and_stout_ones_are_to_be_found(observer, width, fwhm_q):
    found = observer.truth(film(arc(1.5, 45, fwhm_q, width)))
    assert visible_peaks(found).tolist() == [True]
    assert found.kind == ("segment",)


def test_a_longer_arc_is_neither_hit_nor_miss(observer):
    found = observer.truth(film(arc(1.5, 45, 0.06, 20)))
    assert visible_peaks(found).tolist() == [False]
    assert found.snr > 50


@pytest.mark.parametrize("width", [40, 120, 1e4])
def test_rings_are_background(observer, width):
    assert len(observer.truth(film(arc(1.5, 45, 0.04, width)))) == 0


def test_a_ring_under_a_spot_hides_some_of_it(observer):
    spot = arc(1.5, 45)
    alone = observer.truth(film(spot))
    on_ring = observer.truth(film(spot, arc(1.52, 45, width=1e4)))
    assert len(on_ring) == 1
    assert on_ring.snr < alone.snr


def test_a_box_ends_where_the_mask_begins(renderer):
    mask = renderer.q_xy > 1.0
    found = CartesianObserver(renderer, Panel(), GRID, mask).truth(film(arc(1.414, 45)))
    whole = CartesianObserver(renderer, Panel(), GRID).truth(film(arc(1.414, 45)))
    assert found.boxes[0, 2] == pytest.approx(pixels(1.0, 0)[0], abs=1.5)
    assert found.boxes[0, 0] == whole.boxes[0, 0]
    assert found.visible[0] == pytest.approx(0.5, abs=0.15)
    assert found.snr < whole.snr
    image = remapper_of(renderer, mask).cartesian(renderer.expected(film())).intensity
    x0, y0, x1, y1 = np.round(found.boxes[0]).astype(int)
    assert np.isfinite(image[y0 : y1 + 1, x0:x1]).all()


def test_what_is_masked_altogether_is_no_peak(renderer):
    mask = renderer.q_xy > 0.5
    assert len(CartesianObserver(renderer, Panel(), GRID, mask).truth(film(arc(1.414, 45)))) == 0


@pytest.mark.parametrize(("side", "there"), [("fold", 2), ("right", 2), ("left", 1)])
def test_only_spots_on_the_side_shown_are_true(renderer, side, there):
    """Left of the beam the detector ends at q_xy = -0.77."""
    observer = CartesianObserver(renderer, Panel(), CartesianGrid(Q_MAX, CELLS, side))
    scene = film(arc(0.7, 45), arc(1.8, 45))
    found = observer.truth(scene)
    assert len(found) == there
    image = remapper_of(renderer, side=side).cartesian(renderer.expected(scene)).intensity
    for x0, y0, x1, y1 in np.round(found.boxes).astype(int):
        assert np.isfinite(image[y0 : y1 + 1, x0 : x1 + 1]).mean() > 0.9


def test_spots_of_a_fibre_stand_in_columns_of_the_lattice(renderer, observer):
    a = 5.9328
    perovskite = read_structure(shipped_cifs()["MAPbBr3"], q_max=Q_MAX)
    texture = Texture(contact=(1, 0, 0), mosaic_deg=1.0)
    scene = Scene(phases=(Phase(perovskite, 500.0, texture, size_angstrom=300),), air=0, flat=1)
    found = observer.truth(scene)
    columns = (found.boxes[:, 0] + found.boxes[:, 2]) / 2 * Q_MAX / (CELLS[1] - 1)
    rows = (found.boxes[:, 1] + found.boxes[:, 3]) / 2 * Q_MAX / (CELLS[0] - 1)
    whole = found.visible > 0.9
    in_plane = np.sqrt([h * h + k * k for h in range(5) for k in range(5)]) * 2 * np.pi / a
    assert whole.sum() > 5
    for q_xy, q_z in zip(columns[whole], rows[whole], strict=True):
        assert np.abs(q_xy - in_plane).min() < 0.03
        assert np.abs(q_z * a / 2 / np.pi - np.round(q_z * a / 2 / np.pi)) < 0.03


def test_a_small_crystallite_broadens_its_spots_alike_in_all_directions():
    perovskite = read_structure(shipped_cifs()["MAPbBr3"], q_max=2.0)
    texture = Texture(contact=(1, 0, 0), mosaic_deg=0.3)
    phase = Phase(perovskite, 1.0, texture, 120.0, footprint=0.0, round_spots=True)
    for component in phase.components(4096):
        half = np.flatnonzero(component.angular > component.angular.max() / 2)
        if 0 in half or 4095 in half or component.hkl == (1, 0, 0):
            continue
        along_phi = component.q * np.radians(len(half) * 90 / 4096)
        own = component.q * np.radians(0.3 * 2.3548)
        assert np.sqrt(along_phi**2 - own**2) == pytest.approx(component.fwhm_q, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [6, 9])
def test_the_same_seed_gives_the_same_frames_with_boxes_on_data(seed):
    one, other = (
        list(random_frames(seed, shape=(128, 256), count=2, space="cartesian")) for _ in range(2)
    )
    assert sum(len(frame.truth) for frame in one) > 10
    for frame, same in zip(one, other, strict=True):
        np.testing.assert_array_equal(frame.intensity, same.intensity)
        np.testing.assert_array_equal(frame.truth.boxes, same.truth.boxes)
        boxes = frame.truth.boxes
        assert frame.intensity.shape == (128, 256)
        assert np.all(boxes[:, :2] <= boxes[:, 2:])
        assert np.all(boxes >= -0.5)
        assert np.all(boxes <= [255.5, 127.5, 255.5, 127.5])
        for x0, y0, x1, y1 in np.round(boxes[frame.truth.visible > 0.5]).astype(int):
            data = np.isfinite(frame.intensity[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1])
            assert data.mean() > 0.3

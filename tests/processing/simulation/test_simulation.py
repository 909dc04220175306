"""Simulated frames: where rings lie, their texture, what the panel records, what is true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings, GeometrySettings, GridSettings
from gixi_bluesky.processing.simulation import (
    Component,
    Halo,
    Observer,
    Panel,
    Phase,
    Renderer,
    Scene,
    Streak,
    Texture,
    record,
    truth,
)
from gixi_bluesky.processing.simulation.texture import angular_profiles, phi_axis, tilted_density
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs

SHAPE = (500, 460)
A_MAPBBR3 = 5.9328
CUBIC = (A_MAPBBR3, A_MAPBBR3, A_MAPBBR3, 90.0, 90.0, 90.0)
GRID = GridSettings(q_max_inv_angstrom=3.0, shape=(256, 768))


@pytest.fixture(scope="module")
def perovskite():
    return read_structure(shipped_cifs()["MAPbBr3"], q_max=3.4)


@pytest.fixture(scope="module")
def geometry():
    return Geometry.from_settings(
        GeometrySettings(
            wavelength_angstrom=0.6888,
            distance_mm=360,
            pixel_size_mm=(0.344, 0.344),
            beam_center_px=(20, 90),
            incidence_angle_deg=0.3,
        ),
        SHAPE,
    )


@pytest.fixture(scope="module")
def renderer(geometry):
    return Renderer(geometry, SHAPE)


@pytest.fixture(scope="module")
def remapper(geometry):
    return Remapper(geometry, GRID, CorrectionSettings(), SHAPE)


def powder(structure, counts=100.0, **changes):
    return Scene(phases=(Phase(structure, counts, size_angstrom=250, **changes),), air=0, flat=1)


def line_q(*hkl):
    return 2 * np.pi * np.linalg.norm(hkl) / A_MAPBBR3


def mean_over_phi(image):
    """Mean of each column that has data, 0 elsewhere."""
    return np.ma.masked_invalid(image).mean(axis=0).filled(0.0)


def centroid_near(q, profile, line, reach=0.05):
    near = np.abs(q - line) < reach
    weight = profile[near] - np.median(profile[np.abs(q - line) < 2 * reach])
    weight = np.clip(weight, 0, None)
    return (q[near] * weight).sum() / weight.sum()


STRONG = [(1, 0, 0), (1, 1, 0), (2, 0, 0), (2, 1, 0)]


def test_rings_of_a_frame_lie_at_the_lines_for_pyfai(perovskite, renderer):
    pyfai = pytest.importorskip("pyFAI.integrator.azimuthal")
    frame = renderer.expected(powder(perovskite))
    integrator = pyfai.AzimuthalIntegrator(
        dist=0.36,
        poni1=20.5 * 344e-6,
        poni2=90.5 * 344e-6,
        pixel1=344e-6,
        pixel2=344e-6,
        wavelength=0.6888e-10,
    )
    q, profile = integrator.integrate1d(
        frame, 1500, unit="q_A^-1", mask=~renderer.above_horizon, method=("no", "csr", "cython")
    )[:2]
    for hkl in STRONG:
        line = line_q(*hkl)
        assert centroid_near(q, profile, line) == pytest.approx(line, rel=1e-3)


def test_rings_come_out_of_the_remap_at_the_lines(perovskite, renderer, remapper):
    polar = remapper(renderer.expected(powder(perovskite)))
    profile = mean_over_phi(polar.intensity[10:-40])
    for hkl in STRONG:
        line = line_q(*hkl)
        assert centroid_near(polar.q, profile, line) == pytest.approx(line, rel=1e-3)


def test_a_powder_ring_is_equally_bright_all_around_once_corrected(perovskite, renderer, remapper):
    polar = remapper(renderer.expected(powder(perovskite)))
    ring = polar.intensity[:, np.abs(polar.q - line_q(2, 0, 0)) < 0.04]
    along = ring[np.isfinite(ring).all(axis=1)].mean(axis=1)
    assert along.std() / along.mean() < 0.02


def test_twice_the_counts_is_twice_the_intensity(perovskite, renderer):
    dark = renderer.expected(powder(perovskite, counts=0.0)).sum(dtype=float)
    once = renderer.expected(powder(perovskite, counts=50.0)).sum(dtype=float) - dark
    twice = renderer.expected(powder(perovskite, counts=100.0)).sum(dtype=float) - dark
    assert twice == pytest.approx(2 * once, rel=1e-5)


def test_below_the_horizon_the_film_is_dark(perovskite, renderer):
    scene = powder(perovskite)
    wet = replace(scene, halos=(Halo(1.2, 0.6, 50.0),))
    below = ~renderer.above_horizon
    np.testing.assert_array_equal(renderer.expected(wet)[below], renderer.expected(scene)[below])


def test_streaks_lie_on_the_specular_plane_and_above_the_horizon(renderer):
    bare = Scene(air=0, flat=0)
    specular = renderer.expected(replace(bare, streaks=(Streak("specular", 100),)))
    yoneda = renderer.expected(replace(bare, streaks=(Streak("yoneda", 100, q_z=0.04),)))
    assert abs(np.argmax(specular[200]) - 90) <= 1  # the column of the beam
    row = np.argmax(yoneda[:, 150])
    horizon = renderer.geometry.horizon_q_z
    assert renderer.q_z[row, 150] == pytest.approx(horizon + 0.04, abs=0.01)


@pytest.mark.parametrize(
    ("hkl", "arcs_at"),
    [((1, 0, 0), {0.0, 90.0}), ((1, 1, 0), {0.0, 45.0}), ((1, 1, 1), {35.3})],
)
def test_arcs_of_a_fibre_lie_where_the_lattice_says(hkl, arcs_at):
    profiles = angular_profiles(Texture(contact=(1, 0, 0), mosaic_deg=2.0), CUBIC, hkl, 1024)
    phi = phi_axis(1024)
    found = sorted(float(phi[np.argmax(profile)]) for profile in profiles)
    assert found == pytest.approx(sorted(arcs_at), abs=2.5)


@settings(max_examples=20, deadline=None)
@given(
    angle=st.floats(0, 90), mosaic=st.floats(2, 40), hkl=st.sampled_from(STRONG)
)  # narrower arcs than the 0.25 deg cells would need a finer rule
def test_texture_moves_intensity_around_but_adds_none(angle, mosaic, hkl):
    phi = phi_axis(4001)
    solid_angle = np.cos(np.radians(phi))
    mean = np.sum(tilted_density(angle, mosaic, phi) * solid_angle) / solid_angle.sum()
    assert mean == pytest.approx(1.0, rel=0.03)
    texture = Texture(contact=(1, 1, 1), mosaic_deg=mosaic, powder_fraction=0.3)
    total = np.sum(angular_profiles(texture, CUBIC, hkl, 4001), axis=0)
    assert np.sum(total * solid_angle) / solid_angle.sum() == pytest.approx(1.0, rel=0.03)


def test_counts_are_poisson(renderer):
    expected = np.full(SHAPE, 7.0, np.float32)
    frame = record(expected, Panel(), np.random.default_rng(1))
    assert frame.dtype == np.int32
    assert frame.mean() == pytest.approx(7.0, rel=0.01)
    assert frame.var() == pytest.approx(7.0, rel=0.02)


def test_gaps_and_dead_pixels_of_a_counting_panel_are_minus_one():
    panel = Panel(modules=(195, 220), gap=(17, 7), dead=1e-3)
    frame = record(np.full(SHAPE, 7.0, np.float32), panel, np.random.default_rng(1))
    assert (frame[195:212] == -1).all()
    assert (frame[:, 220:227] == -1).all()
    assert ((frame == -1) == panel.absent(SHAPE)).all()
    assert 0.0005 < (frame[:195, :220] == -1).mean() < 0.002


def test_the_mask_of_a_panel_covers_all_that_is_not_the_film():
    panel = Panel(modules=(195, 220), dead=1e-3, hot=1e-3, beam_stop=(20.0, 90.0, 8.0))
    expected = np.full(SHAPE, 50.0, np.float32)
    frame = record(expected, panel, np.random.default_rng(1))
    seen = frame[~panel.mask(SHAPE)]
    assert seen.min() > 10
    assert seen.max() < 100
    assert panel.mask(SHAPE).mean() < 0.2


def test_a_flat_panel_has_negative_noise_and_no_gaps():
    panel = Panel(readout_noise=12.0, gain=3.0)
    frame = record(np.full(SHAPE, 10.0, np.float32), panel, np.random.default_rng(1))
    assert frame.dtype == np.float32
    assert (frame < 0).mean() > 0.1
    assert frame.mean() == pytest.approx(10.0, rel=0.02)
    assert frame.var() == pytest.approx(3.0 * 10.0 + 12.0**2, rel=0.03)


def test_the_same_seed_gives_the_same_frame(perovskite, renderer):
    texture = Texture(unevenness=0.4, grains=3, seed=5)
    expected = renderer.expected(powder(perovskite, texture=texture))
    one, two = (record(expected, Panel(hot=1e-4), np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_truth_names_every_ring_once_with_its_place_and_line(perovskite, renderer):
    q, phi = np.linspace(0, 3.0, 768), np.linspace(0, 90, 256)
    found = truth(renderer, powder(perovskite), Panel(), q, phi)
    named = {hkl[0]: float(at) for hkl, at in zip(found.hkl, found.q, strict=True)}
    assert len(named) == len(found)
    for hkl in STRONG:
        assert named[hkl] == pytest.approx(line_q(*hkl), rel=1e-3)
    assert set(found.kind) == {"ring"}
    assert set(found.phase) == {perovskite.slug}


def test_truth_boxes_hold_what_they_should(perovskite, renderer, remapper):
    """q ± FWHM/2 of a Gaussian holds 76 % of it."""
    scene = powder(perovskite, counts=200.0)
    polar = remapper(renderer.expected(scene))
    dark = remapper(renderer.expected(replace(scene, phases=())))
    crystal = polar.intensity - dark.intensity
    found = truth(renderer, scene, Panel(), polar.q, polar.phi)
    for hkl in STRONG:
        row = next(i for i, names in enumerate(found.hkl) if hkl in names)
        x0, y0, x1, y1 = found.boxes[row]
        rows = slice(int(y0) + 2, int(y1) - 2)
        near = np.abs(polar.q - found.q[row]) < 0.06
        profile = mean_over_phi(crystal[rows])
        columns = np.arange(len(polar.q))
        inside = np.interp(columns, [x0 - 0.5, x0 + 0.5, x1 - 0.5, x1 + 0.5], [0, 1, 1, 0])
        share = (profile * inside)[near].sum() / profile[near].sum()
        assert share == pytest.approx(0.76, abs=0.06)


def test_truth_ends_where_the_detector_ends(perovskite, renderer):
    q, phi = np.linspace(0, 3.4, 768), np.linspace(0, 90, 256)
    found = truth(renderer, powder(perovskite), Panel(), q, phi)
    outermost = int(np.argmax(found.q))
    wedge = np.degrees(np.arccos(np.clip(found.q / (2 * renderer.geometry.wavenumber), 0, 1)))
    assert (phi[1] * found.boxes[:, 3] <= wedge + 1.0).all()
    assert found.visible[outermost] < 1.0


def test_a_spot_on_its_ring_is_a_second_peak(perovskite, renderer):
    q, phi = np.linspace(0, 3.0, 768), np.linspace(0, 90, 256)
    scene = powder(perovskite, texture=Texture(grains=1, spot_deg=1.0, seed=2))
    found = truth(renderer, scene, Panel(), q, phi)
    first_line = [kind for kind, at in zip(found.kind, found.q, strict=True) if at < 1.1]
    assert sorted(first_line) == ["ring", "spot"]


def test_more_counts_are_more_visible(perovskite, renderer):
    q, phi = np.linspace(0, 3.0, 768), np.linspace(0, 90, 256)
    weak = truth(renderer, powder(perovskite, counts=1.0), Panel(), q, phi)
    strong = truth(renderer, powder(perovskite, counts=100.0), Panel(), q, phi)
    assert (strong.snr > 5 * weak.snr).all()


@pytest.fixture(scope="module")
def refracting(geometry):
    return Renderer(geometry.with_incidence(0.2).with_critical_angle(0.15), SHAPE)


def test_refraction_lifts_peaks_out_of_the_plane_and_truth_follows(
    perovskite, geometry, refracting
):
    """Where a remap that knows no refraction shows an arc, there truth has its box."""
    texture = Texture(contact=(1, 0, 0), mosaic_deg=2.0)
    scene = powder(perovskite, counts=3000.0, texture=texture)
    remap = Remapper(refracting.unrefracted, GRID, CorrectionSettings(), SHAPE)
    polar = remap(refracting.expected(scene))
    found = truth(refracting, scene, Panel(), polar.q, polar.phi)
    steep = [i for i, hkl in enumerate(found.hkl) if (1, 0, 0) in hkl and found.phi[i] > 60]
    flat = [i for i, hkl in enumerate(found.hkl) if (1, 0, 0) in hkl and found.phi[i] < 30]
    assert steep
    assert flat
    assert found.q[steep[0]] > found.q[flat[0]] + 0.001
    assert found.q[flat[0]] == pytest.approx(line_q(1, 0, 0), abs=0.002)
    rows = slice(int(found.boxes[steep[0], 1]), int(found.boxes[steep[0], 3]))
    profile = mean_over_phi(polar.intensity[rows])
    assert centroid_near(polar.q, profile, found.q[steep[0]]) == pytest.approx(
        found.q[steep[0]], abs=0.002
    )


def test_the_reflected_beam_doubles_a_peak_by_twice_the_incidence_inside(perovskite, refracting):
    scene = powder(perovskite, texture=Texture(contact=(1, 0, 0), mosaic_deg=1.0))
    doubled = replace(scene, reflected=0.5)
    once, twice = (list(refracting.apparent(s)) for s in (scene, doubled))
    assert len(twice) == 2 * len(once)
    first, second = (c for c in twice if c.hkl == (1, 0, 0) and c.angular.argmax() > 900)
    apart = 2 * refracting.geometry.horizon_q_z
    assert second.q - first.q == pytest.approx(apart, rel=0.05)
    assert second.height == pytest.approx(0.5 * first.height)


def test_a_line_narrower_than_a_pixel_is_as_wide_as_one_and_as_strong(perovskite, renderer):
    scene = powder(perovskite)
    sharp = replace(scene, phases=(replace(scene.phases[0], size_angstrom=1e5, footprint=0.0),))
    components = renderer.components(sharp)
    assert min(c.fwhm_q for c in components) >= renderer.pixel_q
    (phase,) = sharp.phases
    inside = [c for c in phase.components(1024) if c.q < renderer.q[-1]]
    for blurred, line in zip(components, inside, strict=True):
        assert blurred.height * blurred.fwhm_q == pytest.approx(line.height * line.fwhm_q)


@given(share=st.floats(0, 1), fwhm=st.floats(0.01, 0.2))
def test_a_pseudo_voigt_has_its_width_whatever_its_share(share, fwhm):
    line = Component("x", (1, 0, 0), 1.0, fwhm, 1.0, np.ones(2), lorentzian=share)
    assert line.radial(np.array([1.0]))[0] == pytest.approx(1.0)
    assert line.radial(np.array([1.0 + fwhm / 2]))[0] == pytest.approx(0.5)


def test_zingers_strike_as_often_as_reported():
    dark = np.zeros(SHAPE, np.float32)
    rng = np.random.default_rng(1)
    struck = [np.count_nonzero(record(dark, Panel(zingers=20.0), rng)) for _ in range(30)]
    assert np.mean(struck) == pytest.approx(20.0, rel=0.2)


def test_a_missing_module_holds_no_data_and_no_box(perovskite, renderer):
    panel = Panel(modules=(195, 220), missing=((1, 0),))
    frame = record(np.full(SHAPE, 7.0, np.float32), panel, np.random.default_rng(1))
    assert (frame[212:407, :220] == -1).all()
    assert (frame[212:407, 227:447] >= 0).all()


@pytest.mark.parametrize("side", ["right", "left"])
def test_truth_shows_one_side_only_if_the_grid_does(perovskite, geometry, renderer, side):
    grid = GRID.model_copy(update={"side": side})
    polar = Remapper(geometry, grid, CorrectionSettings(), SHAPE)(
        record(renderer.expected(powder(perovskite)), Panel(), np.random.default_rng(1))
    )
    observer = Observer(renderer, Panel(), polar.q, polar.phi, side=side)
    found = observer.truth(powder(perovskite))
    data = np.isfinite(polar.intensity)
    assert len(found)
    for x0, y0, x1, y1 in np.round(found.boxes[found.visible > 0.5]).astype(int):
        assert data[y0 : y1 + 1, x0 : x1 + 1].mean() > 0.3

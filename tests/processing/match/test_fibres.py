"""Phases of films of spots: lines that their texture hides, and spots where it puts none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from peak_lists import BY_SLUG, FRAME, NOISE, SETTINGS, STRUCTURES, peak_table

from gixi_bluesky.processing.match.bayes_factors import Claims, MatchLimits, trials
from gixi_bluesky.processing.match.contact_planes import family_angles
from gixi_bluesky.processing.match.fibre_models import FibreModels, SpotList, fibre_models
from gixi_bluesky.processing.match.line_library import LineLibrary
from gixi_bluesky.processing.match.lines import features_of, visibility_of
from gixi_bluesky.processing.match.phases import match
from gixi_bluesky.processing.match.plane_angles import PlaneAngles
from gixi_bluesky.processing.match.tilts import MOSAICS_DEG, tilt_table
from gixi_bluesky.processing.match.views import View
from gixi_bluesky.processing.simulation.texture import Texture, angular_profiles
from gixi_bluesky.processing.structures.directions import tilted_density
from gixi_bluesky.processing.tables import Peaks

PHI = np.linspace(0, 90, 91)
VIEW = (PHI > 2) & (PHI < 84)  # a missing wedge at the top


def film(slug: str, contact: tuple[int, int, int], seed: int, *, snr: float = 120.0) -> Peaks:
    """Return the spots of a fibre with a mosaic of 3 deg; only those above the noise."""
    rng = np.random.default_rng(seed)
    structure = BY_SLUG[slug]
    lines = structure.reflections
    rows = []
    in_view = np.flatnonzero((lines.q > 0.35) & (lines.q < 3.75))
    for line in in_view[np.argsort(-lines.intensity[in_view])[:25]]:
        h, k, el = (int(i) for i in lines.hkl[line])
        for profile in angular_profiles(Texture(contact, 3.0), structure.cell, (h, k, el), 91):
            seen = profile * VIEW
            intensity = snr * NOISE * lines.intensity[line] * seen.mean()
            if intensity > 10 * NOISE:
                rows.append((lines.q[line], intensity, PHI[seen.argmax()]))
    q, intensity, phi = (np.array(column) for column in zip(*rows, strict=True))
    peaks = peak_table((q + rng.normal(0, 0.0007, len(q))).tolist(), intensity.tolist())
    return replace(peaks, phi=phi + rng.normal(0, 0.5, len(q)), fwhm_phi=np.full(len(q), 7.0))


def probability(peaks: Peaks, slug: str) -> float:
    matches, _ = match(peaks, STRUCTURES, SETTINGS, FRAME)
    return dict(zip(matches.phase, matches.probability, strict=True)).get(slug, 0.0)


@pytest.mark.parametrize(
    ("slug", "contact"), [("MAPbI3", (1, 1, 0)), ("PbI2", (0, 0, 1)), ("MAPbBr3", (1, 0, 0))]
)
def test_lines_that_the_texture_hides_are_not_missed(slug, contact):
    found = [probability(film(slug, contact, seed), slug) for seed in range(2)]
    assert min(found) > 0.9


def fibres(peaks: Peaks, slug: str) -> FibreModels:
    """Return one candidate as a powder and as the fibres that its spots allow."""
    library = LineLibrary([BY_SLUG[slug]])
    visibility = visibility_of(FRAME, peaks)
    features = features_of(peaks, visibility)
    tried = trials(library.expected(visibility), features, MatchLimits(0.03, 0.01))
    slots, every = np.array([0]), np.ones(1, bool)
    best, spots = tried.weigh_found(), SpotList.of(features, peaks)
    return fibre_models(tried, best, slots, every, library.angles_of_owner, spots, visibility)


def fibre_over_powder(peaks: Peaks, slug: str) -> float:
    """Return the log odds of the likeliest fibre over the powder; none = -10."""
    models = fibres(peaks, slug)
    features = features_of(peaks, visibility_of(FRAME, peaks))
    tried = trials(models.lines, features, MatchLimits(0.03, 0.01), models.place)
    logs = tried.weigh(Claims.none(len(features))).log_factor + models.log_weight
    return float(logs[1:].max(initial=-10) - logs[0])


def test_spots_at_the_angles_of_a_plane_speak_for_a_fibre_and_spots_anywhere_do_not():
    right, wrong = [], []
    for seed in range(4):
        peaks = film("MAPbI3", (1, 1, 0), seed)
        anywhere = np.random.default_rng(100 + seed).uniform(3, 83, len(peaks))
        right.append(fibre_over_powder(peaks, "MAPbI3"))
        wrong.append(fibre_over_powder(replace(peaks, phi=anywhere), "MAPbI3"))
    assert min(right) > max(wrong)


def test_a_fibre_explains_the_spots_where_it_puts_any():
    peaks = film("MAPbI3", (1, 1, 0), 0)
    visibility = visibility_of(FRAME, peaks)
    features = features_of(peaks, visibility)
    models = fibres(peaks, "MAPbI3")
    fibre = np.flatnonzero(models.lines.owner == 1 + np.argmax(models.log_weight[1:]))
    nearest = abs(features.q - models.lines.q[fibre, None]).argmin(axis=1)
    close = abs(features.q[nearest] - models.lines.q[fibre]) < 0.003
    factor, explains = models.place(fibre[close], nearest[close])
    assert explains.mean() > 0.7
    assert np.median(factor) > 1.5
    powder, explained = models.place(np.zeros(1, int), nearest[:1])
    assert powder == 1
    assert explained


def test_angles_of_families_are_those_of_each_line_alone():
    cell = BY_SLUG["PbI2"].cell
    lines = [(0, 0, 1), (1, 0, 1), (1, 1, 0)]
    found = PlaneAngles.of(cell, lines)
    assert found.prior.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.share.sum(axis=2), 1, rtol=1e-5)
    for row, hkl in enumerate(lines):
        alone = family_angles(cell, hkl)
        for plane in range(len(found.planes)):
            used = found.share[row, plane] > 0
            expected = sorted(set(np.rint(alone[plane]).astype(int).tolist()))
            assert sorted(found.angle[row, plane, used].tolist()) == expected


def test_the_table_holds_the_densities_of_tilted_directions():
    table = tilt_table()
    for angle, mosaic in ((0, 0), (35, 2), (90, 4)):
        expected = tilted_density(float(angle), MOSAICS_DEG[mosaic], np.arange(91.0))
        np.testing.assert_allclose(table[:, angle, mosaic], expected, rtol=1e-5, atol=1e-30)


def test_a_view_of_everything_brings_as_much_of_a_fibre_as_of_a_powder():
    """The mean over phi counts every phi alike, as the intensity of a box does."""
    visibility = visibility_of(FRAME, Peaks.empty())
    view = View.of(visibility)
    column = view.column(np.array([1.5]))[0]
    expected = tilt_table().mean(axis=0)
    np.testing.assert_allclose(view.brought[column], expected, rtol=1e-4)


def test_spots_are_listed_by_feature():
    peaks = peak_table([1.0, 1.0, 1.5, 2.0], [50 * NOISE] * 4)
    peaks = replace(
        peaks, phi=np.array([10.0, 60.0, 45.0, 30.4]), fwhm_phi=np.array([5.0, 5.0, 80.0, 5.0])
    )
    features = features_of(peaks, visibility_of(FRAME, peaks))
    spots = SpotList.of(features, peaks)
    spot, place = spots.on(np.array([2, 0]))
    assert spots.phi[spot].tolist() == [30, 10, 60]
    assert place.tolist() == [0, 1, 1]
    assert spots.rest.tolist() == [0, pytest.approx(50 * NOISE), 0]

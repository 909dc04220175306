"""Contact plane, mosaic and random part of simulated fibres, tilted crystallite by crystallite."""

from __future__ import annotations

import numpy as np
import pytest
from peak_lists import BY_SLUG, FRAME

from gixi_bluesky.processing.match.contact_planes import contact_planes, family_angles
from gixi_bluesky.processing.match.lines import Visibility, visibility_of
from gixi_bluesky.processing.match.phase_orientation import Spots, phase_orientation
from gixi_bluesky.processing.structures.directions import reciprocal_basis
from gixi_bluesky.processing.tables import Peaks

VISIBILITY: Visibility = visibility_of(FRAME, Peaks.empty())
CRYSTALLITES = 4000


def tilted(normal, sigma_deg, rng):
    """Return (n, 3, 3) rotations that turn `normal` near +z with Gaussian tilts and any azimuth."""
    n = CRYSTALLITES
    tilt = np.hypot(*rng.normal(0, np.radians(sigma_deg), (2, n)))
    where, spin = rng.uniform(0, 2 * np.pi, (2, n))
    helper = np.eye(3)[np.argmin(abs(normal))]
    x = np.cross(normal, helper)
    x /= np.linalg.norm(x)
    frame = np.stack([x, np.cross(normal, x), normal])  # rows: crystal directions to x, y, z
    c, s = np.cos(spin), np.sin(spin)
    zero, one = np.zeros(n), np.ones(n)
    about_z = np.array([[c, -s, zero], [s, c, zero], [zero, zero, one]]).transpose(2, 0, 1)
    ct, st = np.cos(tilt), np.sin(tilt)
    about_y = np.array([[ct, zero, st], [zero, one, zero], [-st, zero, ct]]).transpose(2, 0, 1)
    c, s = np.cos(where), np.sin(where)
    back = np.array([[c, -s, zero], [s, c, zero], [zero, zero, one]]).transpose(2, 0, 1)
    return back @ about_y @ about_z @ frame


def fibre_spots(slug, contact, sigma_deg, rng, *, n_lines=6, ring=0.0) -> Spots:
    """Return the visible arcs of the strongest lines; ring: a random part as rings, 0 = none."""
    structure = BY_SLUG[slug]
    lines, basis = structure.reflections, reciprocal_basis(structure.cell)
    normal = np.array(contact) @ basis
    rotations = tilted(normal / np.linalg.norm(normal), sigma_deg, rng)
    rows = []
    for line in np.argsort(-lines.intensity)[:n_lines]:
        hkl = tuple(int(i) for i in lines.hkl[line])
        members = list(np.ndindex(13, 13, 13))
        vectors = (np.array(members) - 6) @ basis
        length = np.linalg.norm(np.array(hkl) @ basis)
        family = vectors[abs(np.linalg.norm(vectors, axis=1) - length) < 1e-4 * length]
        angle = np.degrees(
            np.arccos(np.clip(abs(family @ normal) / length / np.linalg.norm(normal), 0, 1))
        )
        for value in np.unique(angle.round(2)):
            mine = family[abs(angle - value) < 0.01]
            turned = np.einsum("nij,mj->nmi", rotations, mine / length).reshape(-1, 3)
            phi = np.degrees(np.arcsin(np.clip(abs(turned[:, 2]), 0, 1)))
            weight = 1 / np.maximum(np.cos(np.radians(phi)), 0.02)  # per solid angle
            inside = (phi > 1) & (phi < 85)
            if weight[inside].sum() < 0.3 * weight.sum() or not 8 < 90 - value < 82:
                continue
            mean = np.average(phi[inside], weights=weight[inside])
            spread = np.sqrt(np.average((phi[inside] - mean) ** 2, weights=weight[inside]))
            share = len(mine) / len(family)
            rows.append((hkl, lines.q[line], lines.intensity[line], mean, 2.3548 * spread, share))
        if ring:
            rows.append((hkl, lines.q[line], lines.intensity[line], 45.0, 85.0, ring))
    hkl, q, strength, phi, fwhm, share = (np.array(column) for column in zip(*rows, strict=True))
    size = np.full(len(q), 0.3)
    jitter = rng.normal(0, 0.3, len(q)) * (fwhm < 60)
    return Spots(
        cell=structure.cell, hkl=hkl, q=q, strength=strength, phi=phi + jitter,
        fwhm_phi=np.hypot(fwhm, size), size_deg=size, intensity=1000 * strength * share,
    )  # fmt: skip


def same_plane(cell, one, other) -> bool:
    """Whether all families of low index lie at the same angles to both planes."""
    basis = reciprocal_basis(cell)

    def signature(plane):
        normal = np.array(plane) @ basis
        found = [np.linalg.norm(normal)]
        shells: dict[float, list[float]] = {}
        for hkl in np.ndindex(5, 5, 5):
            vector = (np.array(hkl) - 2) @ basis
            length = np.linalg.norm(vector)
            if length > 0:
                cosine = abs(vector @ normal) / length / found[0]
                shells.setdefault(round(float(length), 4), []).append(float(cosine))
        return np.concatenate([found, *(np.sort(shells[k]) for k in sorted(shells))])

    return bool(np.allclose(signature(one), signature(other), atol=1e-3))


CASES = [
    (slug, contact, sigma)
    for slug in ("MAPbBr3", "MAPbI3", "PbI2", "PbBr2", "FAPbI3-delta")
    for contact in ((1, 0, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (1, 1, 1))
    for sigma in (2.0, 6.0)
]


@pytest.mark.slow
def test_the_right_contact_plane_and_mosaic_in_nearly_every_case():
    rng = np.random.default_rng(0)
    right, ratio = [], []
    for slug, contact, sigma in CASES:
        spots = fibre_spots(slug, contact, sigma, rng)
        if len(spots.q) < 3:
            continue
        found = phase_orientation(spots, VISIBILITY)
        right.append(found.contact is not None and same_plane(spots.cell, found.contact, contact))
        if right[-1]:
            assert found.probability > 0.3
            assert found.random_fraction == 0
            if np.isfinite(found.mosaic_deg):
                ratio.append(found.mosaic_deg / (2.3548 * sigma))
    assert len(right) > 40
    assert np.mean(right) >= 0.95
    assert np.mean(abs(np.array(ratio) - 1) < 0.15) >= 0.9


@pytest.mark.slow
def test_spots_anywhere_are_no_texture():
    rng = np.random.default_rng(1)
    called = 0
    for _ in range(60):
        spots = fibre_spots("MAPbI3", (1, 1, 0), 2.0, rng, n_lines=5)
        drawn = Spots(
            cell=spots.cell, hkl=spots.hkl, q=spots.q, strength=spots.strength,
            phi=rng.uniform(3, 82, len(spots.q)), fwhm_phi=spots.fwhm_phi,
            size_deg=spots.size_deg, intensity=spots.intensity,
        )  # fmt: skip
        called += phase_orientation(drawn, VISIBILITY).contact is not None
    assert called <= 6


def test_rings_are_a_powder():
    rng = np.random.default_rng(2)
    spots = fibre_spots("MAPbBr3", (1, 0, 0), 3.0, rng, ring=1.0)
    rings = spots.fwhm_phi > 60
    only = Spots(**{
        name: getattr(spots, name) if name == "cell" else getattr(spots, name)[rings]
        for name in ("cell", "hkl", "q", "strength", "phi", "fwhm_phi", "size_deg", "intensity")
    })  # fmt: skip
    found = phase_orientation(only, VISIBILITY)
    assert found.contact is None
    assert found.random_fraction == 1
    assert np.isnan(found.angle_deg).all()


def test_rings_under_the_arcs_are_the_random_part():
    rng = np.random.default_rng(3)
    found = [
        phase_orientation(
            fibre_spots("MAPbBr3", (1, 0, 0), 3.0, rng, ring=ring), VISIBILITY
        ).random_fraction
        for ring in (0.1, 1.0)
    ]
    assert 0 < found[0] < found[1] < 1


@pytest.mark.parametrize("slug", ["MAPbBr3", "PbI2"])
def test_each_peak_has_the_angle_of_its_family(slug):
    rng = np.random.default_rng(4)
    spots = fibre_spots(slug, (0, 0, 1), 2.0, rng)
    found = phase_orientation(spots, VISIBILITY)
    assert found.contact is not None
    np.testing.assert_allclose(found.angle_deg, 90 - spots.phi, atol=5)


def test_equivalent_planes_are_listed_once():
    cubic = [tuple(p) for p in contact_planes(BY_SLUG["MAPbBr3"].cell).tolist()]
    assert sorted(tuple(sorted(map(abs, p))) for p in cubic) == [
        (0, 0, 1), (0, 1, 1), (0, 1, 2), (1, 1, 1), (1, 1, 2), (1, 2, 2),
    ]  # fmt: skip
    assert all(min(p) >= 0 for p in cubic)
    tetragonal = contact_planes(BY_SLUG["MAPbI3"].cell)
    assert len(tetragonal) > len(cubic)
    angles = family_angles(BY_SLUG["MAPbBr3"].cell, (1, 1, 0))
    plane = cubic.index((1, 0, 0)) if (1, 0, 0) in cubic else 0
    assert sorted({round(a) for a in angles[plane].tolist()}) == [45, 90]

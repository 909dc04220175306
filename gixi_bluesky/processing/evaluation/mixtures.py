"""Simulated mixtures as peak lists with known phases, to evaluate the matching."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from gixi_bluesky.processing.evaluation.candidate_sets import constrained, strained
from gixi_bluesky.processing.simulation.texture import Cell, Texture, angular_profiles
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.tables import FWHM_PER_SIGMA, Peaks
from gixi_bluesky.processing.types import PolarImage

__all__ = [
    "ANISOTROPIC_STRAIN",
    "DEVELOPMENT",
    "REPORT",
    "STRAIN",
    "ZERO_ERROR",
    "MixedPhase",
    "Mixture",
    "Present",
    "SharedConditions",
    "drawn_phases",
    "drawn_texture",
    "drawn_weights",
    "mixture_of",
    "mixtures",
    "seen_by_a_flat_detector",
]

Float64 = NDArray[np.float64]

DEVELOPMENT, REPORT = 0, 1000  # first seeds: while the matching is built, for published figures

STRAIN, ANISOTROPIC_STRAIN = 0.003, 0.0015
ZERO_ERROR = 0.002  # 1/angstrom, about the shift by one detector pixel
_ROWS, _COLUMNS = 91, 512  # of the image that decides what is visible
_LINES_PER_PHASE = 60
_RESOLVED = 0.8  # FWHM in |q|; nearer lines at one phi are one peak
_HALF_FOUND, _FOUND_SPREAD = 7.0, 0.5  # SNR at which a detector finds every second peak; in log
_VISIBLE_SNR = 8.0
_RING_DEG, _SPOT_DEG = 40.0, 6.0  # wider along phi is a ring, a segment


@dataclass(frozen=True, slots=True)
class Present:
    """A phase of a mixture.

    weight: its share by mass; cell: the true one
    n_visible: its lines that are peaks of their own above the noise; n_off_axis: those of a
        textured phase between 10 and 80 deg from the surface normal
    """

    structure: Structure
    weight: float
    cell: Cell
    texture: Texture
    n_visible: int
    n_off_axis: int


@dataclass(frozen=True, slots=True)
class Mixture:
    """One frame: the peaks as measured, the image they were measured in, and what is in it."""

    peaks: Peaks
    polar: PolarImage
    present: tuple[Present, ...]
    zero_error: float
    candidates: tuple[Structure, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class MixedPhase:
    """A phase before its peaks are made; snr: of its strongest line, were it a powder."""

    structure: Structure
    weight: float
    cell: Cell
    texture: Texture
    snr: float


@dataclass(frozen=True, slots=True)
class SharedConditions:
    """Values that the phases of a frame share.

    fwhm: in |q|, 1/angstrom; best_snr: of the strongest line, which bounds false peaks
    zero: shift of all lines, 1/angstrom
    """

    fwhm: float
    best_snr: float
    zero: float


@dataclass(slots=True)
class _Arc:
    """An arc before it is measured; owner: (phase, line) of the strongest part, -1 = none."""

    q: float
    phi: float
    fwhm_q: float
    fwhm_phi: float
    intensity: float
    owner: tuple[int, int]


def mixtures(seed: int, count: int, candidates: Sequence[Structure]) -> Iterator[Mixture]:
    """Yield `count` frames of 2 to 4 phases, 5 to 80 % by mass, powders and fibres.

    Each frame has its own range of q, noise, zero error, false peaks and undetected lines; each
    phase its own strain (sigma 0.3 %, and 0.15 % along each free axis) and texture. The strongest
    line of equal masses varies by a factor e^0.5 between phases, single lines by e^0.25.
    """
    for number in range(count):
        rng = np.random.default_rng([seed, 2, number])
        yield _mixture(rng, tuple(candidates))


def _mixture(rng: np.random.Generator, candidates: tuple[Structure, ...]) -> Mixture:
    q_max = float(rng.uniform(2.2, 6.0))
    polar = seen_by_a_flat_detector(rng, q_max)
    fwhm = float(np.exp(rng.uniform(np.log(0.01), np.log(0.035))))
    best_snr = float(np.exp(rng.uniform(np.log(60), np.log(1500))))
    chosen = drawn_phases(rng, candidates)
    weights = drawn_weights(rng, len(chosen))
    zero = float(rng.normal(0, ZERO_ERROR))
    # one by one, since the random numbers of a phase stand before those of its arcs
    phases = (
        _drawn(rng, candidates[which], float(weight), weight / max(weights) * best_snr)
        for which, weight in zip(chosen, weights, strict=True)
    )
    return mixture_of(rng, phases, polar, SharedConditions(fwhm, best_snr, zero), candidates)


def _drawn(rng: np.random.Generator, structure: Structure, weight: float, snr: float) -> MixedPhase:
    isotropic = rng.normal(0, STRAIN)
    cell = constrained(structure.cell, isotropic + rng.normal(0, ANISOTROPIC_STRAIN, 3))
    texture = drawn_texture(rng)
    return MixedPhase(structure, weight, cell, texture, snr * np.exp(rng.normal(0, 0.5)))


def mixture_of(
    rng: np.random.Generator,
    phases: Iterable[MixedPhase],
    polar: PolarImage,
    conditions: SharedConditions,
    candidates: Sequence[Structure],
) -> Mixture:
    """Return one frame of some phases, with false peaks and undetected lines.

    polar: the noise, and where there is data
    """
    visible = np.isfinite(polar.intensity)
    noise = _noise_per_peak(polar, conditions.fwhm)
    arcs: list[_Arc] = []
    mixed = []
    for index, one in enumerate(phases):
        moved, amount = strained(one.structure, one.cell), one.snr * noise
        arcs += _arcs(rng, moved, one.texture, amount, conditions.fwhm, index, polar, visible)
        mixed.append((one.structure, one.weight, one.cell, one.texture))
    merged = _merged(rng, arcs)
    strong = conditions.best_snr
    false = [
        _false_arc(rng, polar.q, conditions.fwhm, noise, strong) for _ in range(rng.poisson(1.0))
    ]
    kept = [arc for arc in merged if arc.intensity > _VISIBLE_SNR * noise]
    present = tuple(
        Present(*phase, *_visibility(kept, index, phase[3])) for index, phase in enumerate(mixed)
    )
    peaks = _measured(rng, _pieces(rng, [*merged, *false]), noise, conditions.zero)
    return Mixture(peaks, polar, present, conditions.zero, tuple(candidates))


def _visibility(arcs: Sequence[_Arc], phase: int, texture: Texture) -> tuple[int, int]:
    own = [arc for arc in arcs if arc.owner[0] == phase]
    lines = {arc.owner[1] for arc in own}
    off = sum(10 < arc.phi < 80 for arc in own) if texture.contact is not None else 0
    return len(lines), off


def drawn_phases(rng: np.random.Generator, candidates: Sequence[Structure]) -> list[int]:
    """Return the indices of 2 to 4 phases; in every second frame all are shipped or relatives."""
    n = int(rng.choice([2, 3, 4]))
    related = [i for i, c in enumerate(candidates) if not c.slug.startswith("random")]
    pool = related if rng.random() < 0.5 else range(len(candidates))
    return [int(i) for i in rng.choice(list(pool), n, replace=False)]


def drawn_weights(rng: np.random.Generator, n: int) -> Float64:
    """Return shares by mass, 0.05 to 0.8 each."""
    while True:
        weights = rng.dirichlet(np.full(n, 1.2))
        if weights.min() >= 0.05 and weights.max() <= 0.8:
            return np.asarray(weights)


def drawn_texture(rng: np.random.Generator) -> Texture:
    """Return a powder or a fibre about a plane of low indices, every second one each."""
    if rng.random() < 0.5:
        return Texture()
    planes = [(h, k, el) for h, k, el in product(range(2), repeat=3) if h or k or el]
    return Texture(
        contact=planes[int(rng.integers(len(planes)))],
        mosaic_deg=float(np.exp(rng.uniform(np.log(1.5), np.log(12.0)))),
        powder_fraction=float(rng.choice([0.0, rng.uniform(0.05, 0.5)])),
    )


def seen_by_a_flat_detector(rng: np.random.Generator, q_max: float) -> PolarImage:
    """Return even noise on what a flat detector sees: no missing wedge, edges in q_xy and q_z."""
    q = np.linspace(0, q_max, _COLUMNS)
    phi = np.linspace(0, 90, _ROWS)
    wavenumber = max(2 * np.pi / rng.uniform(0.5, 1.1), 0.75 * q_max)
    wedge = 90 - np.degrees(np.arcsin(np.clip(q / (2 * wavenumber), 0, 1)))
    angle = np.radians(phi)[:, None]
    reach_xy, reach_z = rng.uniform(0.7, 1.0, 2) * q_max
    seen = (q > 0.15) & (phi[:, None] > 0.8) & (phi[:, None] < wedge)
    seen &= (q * np.cos(angle) < reach_xy) & (q * np.sin(angle) < reach_z)
    intensity = np.where(seen, 20, np.nan).astype(np.float32)
    variance = np.full_like(intensity, 5)
    return PolarImage(intensity, variance, np.full_like(intensity, 4), q, phi)


def _noise_per_peak(polar: PolarImage, fwhm: float) -> float:
    """Return the error of a whole ring's intensity in that image."""
    step_q, step_phi = polar.q[1] - polar.q[0], polar.phi[1] - polar.phi[0]
    return float(np.sqrt(4 * fwhm / step_q * 5 * len(polar.phi)) * step_q * step_phi)


def _arcs(
    rng: np.random.Generator,
    structure: Structure,
    texture: Texture,
    amount: float,
    fwhm: float,
    phase: int,
    polar: PolarImage,
    visible: NDArray[np.bool_],
) -> Iterator[_Arc]:
    lines, phi = structure.reflections, polar.phi
    strongest = np.argsort(-lines.intensity)[:_LINES_PER_PHASE]
    for line in strongest[lines.q[strongest] < polar.q[-1]]:
        q = float(lines.q[line])
        column = int(np.clip(np.rint(q / polar.q[1]), 0, len(polar.q) - 1))
        h, k, el = (int(i) for i in lines.hkl[line])
        uneven = np.exp(rng.normal(0, 0.25))
        for profile in angular_profiles(texture, structure.cell, (h, k, el), _ROWS):
            seen = profile * visible[:, column]
            share = float(seen.sum()) / len(phi)
            if share < 1e-4:
                continue
            top = int(np.argmax(seen))
            width = float((seen > 0.5 * seen[top]).sum() * (phi[1] - phi[0]))
            yield _Arc(
                q=q,
                phi=float(np.average(phi, weights=seen)) if width > _RING_DEG else float(phi[top]),
                fwhm_q=float(np.hypot(fwhm, 0.003 * q)),
                fwhm_phi=max(width, 1.0),
                intensity=amount * float(lines.intensity[line]) * uneven * share,
                owner=(phase, int(line)),
            )


def _merged(rng: np.random.Generator, arcs: list[_Arc]) -> list[_Arc]:
    """Join what overlaps in q and phi; half of the weak shoulders of strong peaks are lost."""
    kept: list[_Arc] = []
    for arc in sorted(arcs, key=lambda a: -a.intensity):
        home = None
        for other in kept:
            apart_q = abs(arc.q - other.q) / max(arc.fwhm_q, other.fwhm_q)
            apart_phi = abs(arc.phi - other.phi) / (0.5 * (arc.fwhm_phi + other.fwhm_phi))
            if apart_phi > 1.0 or _stands_out(arc, other):
                continue
            if apart_q < _RESOLVED:
                home = other
                break
            if apart_q < 1.2 and arc.intensity < 0.25 * other.intensity and rng.random() < 0.5:
                home = other
                break
        if home is None:
            kept.append(arc)
            continue
        total = home.intensity + arc.intensity
        home.q = (home.q * home.intensity + arc.q * arc.intensity) / total
        home.intensity = total
        home.fwhm_phi = max(home.fwhm_phi, arc.fwhm_phi)
    return kept


def _stands_out(one: _Arc, other: _Arc) -> bool:
    """Return whether one of them is an arc that is brighter than the ring it lies on."""
    narrow, wide = sorted((one, other), key=lambda arc: arc.fwhm_phi)
    if wide.fwhm_phi <= _RING_DEG or narrow.fwhm_phi > _RING_DEG:
        return False
    return narrow.intensity / narrow.fwhm_phi > wide.intensity / wide.fwhm_phi


def _pieces(rng: np.random.Generator, arcs: list[_Arc]) -> list[_Arc]:
    """Cut some rings into pieces, each a little off, as detectors do."""
    found: list[_Arc] = []
    for arc in arcs:
        if arc.fwhm_phi < _RING_DEG or rng.random() > 0.1:
            found.append(arc)
            continue
        for part in range(3):
            phi = arc.phi + (part - 1) * arc.fwhm_phi / 3
            q = arc.q + rng.normal(0, 0.15) * arc.fwhm_q
            found.append(_Arc(q, phi, arc.fwhm_q, arc.fwhm_phi / 3, arc.intensity / 3, arc.owner))
    return found


def _false_arc(
    rng: np.random.Generator, q: Float64, fwhm: float, noise: float, best_snr: float
) -> _Arc:
    snr = float(np.exp(rng.uniform(np.log(8), np.log(max(0.3 * best_snr, 16)))))
    return _Arc(
        q=float(rng.uniform(0.2, q[-1])),
        phi=float(rng.uniform(3, 80)),
        fwhm_q=fwhm,
        fwhm_phi=float(rng.choice([2.0, 10.0, 80.0])),
        intensity=snr * noise,
        owner=(-1, -1),
    )


def _measured(rng: np.random.Generator, arcs: Sequence[_Arc], noise: float, zero: float) -> Peaks:
    rows: list[dict[str, Any]] = []
    for arc in arcs:
        own_noise = noise * np.sqrt(max(arc.fwhm_phi, 2.0) / 90)
        snr = arc.intensity / own_noise
        if rng.random() > 0.95 * ndtr(np.log(snr / _HALF_FOUND) / _FOUND_SPREAD):
            continue
        q_error = float(np.hypot(0.0002, 1.5 * arc.fwhm_q / FWHM_PER_SIGMA / snr))
        wobble = arc.q * rng.normal(0, 0.0005)  # of the geometry, from ring to ring
        q = arc.q + zero + wobble + rng.normal(0, q_error)
        phi = float(np.clip(arc.phi + rng.normal(0, 0.02 * arc.fwhm_phi), 0, 90))
        rows.append(
            {
                "peak": len(rows), "q": q, "q_error": q_error, "phi": phi,
                "q_xy": q * np.cos(np.radians(phi)), "q_z": q * np.sin(np.radians(phi)),
                "fwhm_q": arc.fwhm_q, "fwhm_phi": arc.fwhm_phi,
                "score": 1.0, "snr": snr, "background": 20.0,
                "intensity": max(arc.intensity + rng.normal(0, own_noise), own_noise),
                "intensity_error": own_noise,
                "kind": _kind(arc.fwhm_phi),
                "fit_flags": 0,
            }
        )  # fmt: skip
    table: Peaks = Peaks.from_rows(rows)
    return table


def _kind(fwhm_phi: float) -> str:
    if fwhm_phi > _RING_DEG:
        return "ring"
    return "segment" if fwhm_phi > _SPOT_DEG else "spot"

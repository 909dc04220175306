"""Simulated mixtures as images: rendered on a detector, remapped, searched and measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.detector import Detector
from gixi_bluesky.processing.evaluation.candidate_sets import constrained, strained
from gixi_bluesky.processing.evaluation.mixtures import (
    ANISOTROPIC_STRAIN,
    STRAIN,
    Mixture,
    Present,
    drawn_phases,
    drawn_texture,
    drawn_weights,
)
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.measure.peaks import measure
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings, GridSettings
from gixi_bluesky.processing.simulation.panel import Panel, record
from gixi_bluesky.processing.simulation.render import Renderer
from gixi_bluesky.processing.simulation.scene import Halo, Phase, Scene
from gixi_bluesky.processing.simulation.truth import Observer, Truth
from gixi_bluesky.processing.structures.cif_files import Structure

__all__ = ["rendered_mixtures"]

_SIZE, _PIXEL_M = (768, 768), 0.3e-3
_VISIBLE_SNR, _VISIBLE_SHARE = 8.0, 0.5


def rendered_mixtures(
    seed: int, count: int, candidates: Sequence[Structure], detector: Detector
) -> Iterator[Mixture]:
    """Yield `count` frames of mixtures drawn as `mixtures` draws them, counted by a detector.

    The remap is given a beam centre that is off by 0.5 pixels (sigma) in both directions. Peaks are
    those that `detector` finds at a score of 0.5, measured in the remapped image.
    """
    for number in range(count):
        rng = np.random.default_rng([seed, 3, number])
        yield _frame(rng, tuple(candidates), detector)


def _frame(
    rng: np.random.Generator, candidates: tuple[Structure, ...], detector: Detector
) -> Mixture:
    geometry = _geometry(rng)
    renderer = Renderer(geometry, _SIZE)
    q_max = 0.9 * float(renderer.q[-1])
    panel = Panel(seed=int(rng.integers(1 << 31)))
    phases = _phases(rng, candidates)
    scene = Scene(
        phases=tuple(phase for phase, *_ in phases),
        halos=(Halo(float(rng.uniform(0.5, 2.0)), 0.6, float(rng.uniform(0, 20))),),
        air=float(rng.uniform(2, 20)),
        flat=1.0,
    )
    off = rng.normal(0, 0.5 * _PIXEL_M, 2)
    assumed = replace(geometry, poni_m=(geometry.poni_m[0] + off[0], geometry.poni_m[1] + off[1]))
    grid = GridSettings(q_max_inv_angstrom=q_max)
    remapper = Remapper(assumed, grid, CorrectionSettings(), _SIZE, None)
    polar = remapper(record(renderer.expected(scene), panel, rng))
    (found,) = detector(detector.prepare(polar.intensity[None]))
    peaks = measure(polar, found.above(0.5, 300))
    truth = Observer(renderer, panel, remapper.grid.q, remapper.grid.phi).truth(scene)
    present = tuple(
        Present(original, weight, phase.structure.cell, phase.texture, *_visibility(truth, phase))
        for phase, original, weight in phases
    )
    return Mixture(peaks, polar, present, float("nan"), candidates)


def _geometry(rng: np.random.Generator) -> Geometry:
    """Draw a beam at the lower edge; the far corner reaches 2.5 to 5 1/angstrom."""
    wavelength = 12.398 / rng.uniform(10.0, 20.0)
    row, column = 0.06 * _SIZE[0], rng.uniform(0.05, 0.5) * _SIZE[1]
    reach = rng.uniform(2.5, 5.0)
    angle = 2 * math.asin(min(reach * wavelength / (4 * math.pi), 0.6))
    corner = _PIXEL_M * math.hypot(_SIZE[0] - row, max(column, _SIZE[1] - column))
    return Geometry(
        wavelength_angstrom=wavelength,
        distance_m=corner / math.tan(angle),
        pixel_size_m=(_PIXEL_M, _PIXEL_M),
        poni_m=((row + 0.5) * _PIXEL_M, (column + 0.5) * _PIXEL_M),
        incidence_angle_rad=math.radians(rng.uniform(0.2, 0.6)),
    )


def _phases(
    rng: np.random.Generator, candidates: Sequence[Structure]
) -> list[tuple[Phase, Structure, float]]:
    chosen = drawn_phases(rng, candidates)
    weights = drawn_weights(rng, len(chosen))
    brightest = float(np.exp(rng.uniform(np.log(20), np.log(300))))
    phases = []
    for index, weight in zip(chosen, weights, strict=True):
        original = candidates[index]
        change: NDArray[np.float64] = rng.normal(0, STRAIN) + rng.normal(0, ANISOTROPIC_STRAIN, 3)
        phase = Phase(
            structure=strained(original, constrained(original.cell, change)),
            counts=brightest * weight / max(weights) * float(np.exp(rng.normal(0, 0.5))),
            texture=drawn_texture(rng),
            size_angstrom=float(np.exp(rng.uniform(np.log(200), np.log(1000)))),
        )
        phases.append((phase, original, float(weight)))
    return phases


def _visibility(truth: Truth, phase: Phase) -> tuple[int, int]:
    clear = (truth.snr > _VISIBLE_SNR) & (truth.visible > _VISIBLE_SHARE)
    own = [i for i, slug in enumerate(truth.phase) if slug == phase.structure.slug and clear[i]]
    fibre = phase.texture.contact is not None
    off_axis = sum(10 < truth.phi[i] < 80 for i in own) if fibre else 0
    return len({truth.hkl[i] for i in own}), off_axis

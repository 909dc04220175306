"""Polar images painted like the training images of the published networks.

Rings and segments are Gaussians in |q|, all around or over part of phi, their brightness modulated
by Perlin noise (Perlin, SIGGRAPH 1985), on a smooth background with more of it, and Gaussian noise
on top: no detector, no gaps, no counting statistics, no missing wedge. After the description in
Starostin et al., npj Comput. Mater. 8 (2022) 101; the numbers are chosen here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.simulation.truth import Truth, kind_of
from gixi_bluesky.processing.tables import FWHM_PER_SIGMA

__all__ = ["PAINTED_PER_SEED", "PaintedImage", "painted_images", "perlin"]

Float32 = NDArray[np.float32]

PAINTED_PER_SEED = 8
_EDGE = float(np.exp(-2.0))  # of the maximum along phi, where a box ends
_APART = 1.3  # FWHM in |q| between lines, at least: nearer ones are one line to the eye


@dataclass(frozen=True, slots=True)
class PaintedImage:
    """One image, (n_phi, n_q) float32 in arbitrary units, and its true boxes."""

    intensity: Float32
    truth: Truth


def painted_images(seed: int, shape: tuple[int, int] = (512, 512)) -> Iterator[PaintedImage]:
    """Yield the images of one seed; phi is 0 to 90 deg and |q| runs from 0 to 1."""
    rng = np.random.default_rng([seed, 2022])
    for _ in range(PAINTED_PER_SEED):
        yield _painted(rng, shape)


def perlin(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Float32:
    """Return smooth noise of about -0.7…0.7, (rows, columns), with `cells` bumps each way."""
    angle = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    gradients = np.stack([np.sin(angle), np.cos(angle)])
    at = [np.linspace(0, n, size, endpoint=False) for n, size in zip(cells, shape, strict=True)]
    low = [a.astype(int) for a in at]
    off = [a - i for a, i in zip(at, low, strict=True)]
    fade = [f * f * f * (f * (6 * f - 15) + 10) for f in off]
    noise = np.zeros(shape)
    for row in (0, 1):
        for column in (0, 1):
            g = gradients[:, low[0] + row][:, :, low[1] + column]
            dot = g[0] * (off[0] - row)[:, None] + g[1] * (off[1] - column)[None, :]
            weight = [f if corner else 1 - f for f, corner in zip(fade, (row, column), strict=True)]
            noise += dot * np.multiply.outer(*weight)
    return noise.astype(np.float32)


def _painted(rng: np.random.Generator, shape: tuple[int, int]) -> PaintedImage:
    noise = float(rng.uniform(0.02, 0.1))
    image = _background(rng, shape)
    rows = []
    for centre, fwhm in _lines(rng, shape[1]):
        angular = _ring(rng, shape[0]) if rng.random() < 0.5 else _segment(rng, shape[0])
        height = noise * float(np.exp(rng.uniform(np.log(1.5), np.log(40.0))))
        sigma = fwhm / FWHM_PER_SIGMA
        radial = np.exp(-0.5 * ((np.arange(shape[1]) - centre) / sigma) ** 2)
        image += (height * np.outer(angular, radial)).astype(np.float32)
        above = np.flatnonzero(angular > _EDGE * angular.max())
        box = (centre - fwhm / 2, above[0], centre + fwhm / 2, above[-1])
        within = np.outer(angular[above[0] : above[-1] + 1], radial[np.abs(radial) > 0.5])
        rows.append((box, height * within.sum() / (noise * np.sqrt(within.size))))
    image += rng.normal(0, noise, shape).astype(np.float32)
    return PaintedImage(image, _truth(rows, shape))


def _background(rng: np.random.Generator, shape: tuple[int, int]) -> Float32:
    q = np.linspace(0, 1, shape[1])
    falling = rng.uniform(0, 2) * np.exp(-q / rng.uniform(0.05, 0.4))
    hump = rng.uniform(0, 1) * np.exp(-0.5 * ((q - rng.uniform(0, 1)) / rng.uniform(0.1, 0.3)) ** 2)
    cloud = 1.0 + rng.uniform(0, 0.6) * perlin(rng, shape, (3, 3))
    return np.asarray((0.3 + falling + hump) * cloud, np.float32)


def _lines(rng: np.random.Generator, columns: int) -> list[tuple[float, float]]:
    """Draw centres and FWHMs in columns, with a minimum distance."""
    lines: list[tuple[float, float]] = []
    for _ in range(int(rng.integers(4, 28))):
        fwhm = float(np.exp(rng.uniform(np.log(3.0), np.log(14.0))))
        centre = float(rng.uniform(2 * fwhm, columns - 2 * fwhm))
        if all(abs(centre - c) > _APART * max(fwhm, w) for c, w in lines):
            lines.append((centre, fwhm))
    return lines


def _ring(rng: np.random.Generator, rows: int) -> NDArray[np.float64]:
    wave = perlin(rng, (rows, 1), (int(rng.integers(2, 8)), 1))[:, 0]
    return np.asarray(np.clip(1.0 + rng.uniform(0, 1.2) * wave, 0.15, None), float)


def _segment(rng: np.random.Generator, rows: int) -> NDArray[np.float64]:
    sigma = float(np.exp(rng.uniform(np.log(4.0), np.log(rows / 8))))
    centre = float(rng.uniform(0, rows - 1))
    return np.exp(-0.5 * ((np.arange(rows) - centre) / sigma) ** 2)


def _truth(
    rows: list[tuple[tuple[float, float, float, float], float]], shape: tuple[int, int]
) -> Truth:
    boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    step = 90.0 / (shape[0] - 1)
    count = len(rows)
    return Truth(
        boxes=boxes,
        q=boxes[:, [0, 2]].mean(axis=1).astype(float) / (shape[1] - 1),
        phi=step * boxes[:, [1, 3]].mean(axis=1).astype(float),
        snr=np.array([snr for _, snr in rows], float),
        visible=np.ones(count),
        phase=("painted",) * count,
        hkl=((),) * count,
        kind=tuple(kind_of(float(box[3] - box[1]) * step) for box in boxes),
    )

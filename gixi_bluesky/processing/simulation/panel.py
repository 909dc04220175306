"""The detector itself: counts from means, with gaps, bad pixels and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Panel", "record"]

Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

_ZINGER_COUNTS = 2000.0
_NO_DATA = -1  # what counting detectors write in gaps and dead pixels


@dataclass(frozen=True, slots=True)
class Panel:
    """A counting detector (int32, gaps and dead pixels = -1) or an integrating flat panel.

    modules: (rows, columns) of a module, None = one piece; gap: pixels between modules
    missing: (row, column) numbers of modules that are not there
    beam_stop: row, column, radius in pixels, None = none
    readout_noise: counts, of an integrating panel (float32); None = counting
    gain: counts per photon of an integrating panel
    dead, hot: share of the pixels; seed fixes which
    zingers: cosmic rays a frame, on the mean
    """

    modules: tuple[int, int] | None = None
    gap: tuple[int, int] = (17, 7)
    missing: tuple[tuple[int, int], ...] = ()
    beam_stop: tuple[float, float, float] | None = None
    readout_noise: float | None = None
    gain: float = 1.0
    dead: float = 0.0
    hot: float = 0.0
    zingers: float = 0.0
    seed: int = 0

    def absent(self, shape: tuple[int, int]) -> Bool:
        """Return where a frame of `shape` has no data: gaps and dead pixels, (rows, columns)."""
        absent = np.zeros(shape, dtype=bool)
        if self.modules is not None:
            pitch = [m + g for m, g in zip(self.modules, self.gap, strict=True)]
            rows, columns = (np.arange(n) % p for n, p in zip(shape, pitch, strict=True))
            absent |= (rows >= self.modules[0])[:, None] | (columns >= self.modules[1])[None, :]
            for row, column in self.missing:
                place = zip((row, column), pitch, strict=True)
                absent[tuple(slice(i * p, (i + 1) * p) for i, p in place)] = True
        dead = np.random.default_rng([self.seed, 1]).random(shape) < self.dead
        return np.asarray(absent | dead)

    def shadow(self, shape: tuple[int, int], margin: float = 0.0) -> Bool:
        """Return the pixels behind the beam stop and its holder, widened by `margin` pixels."""
        if self.beam_stop is None:
            return np.zeros(shape, dtype=bool)
        row, column, radius = self.beam_stop
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        disc = (rows - row) ** 2 + (columns - column) ** 2 < (radius + margin) ** 2
        holder = (rows < row) & (np.abs(columns - column) < 0.3 * radius + margin)
        return np.asarray(disc | holder)

    def transmission(self, shape: tuple[int, int]) -> Float32:
        """Return the transmission to each pixel: nearly zero behind the beam stop."""
        return np.where(self.shadow(shape), np.float32(0.02), np.float32(1.0))

    def hot_pixels(self, shape: tuple[int, int]) -> Bool:
        """Return the pixels that count without light, (rows, columns)."""
        return np.asarray(np.random.default_rng([self.seed, 2]).random(shape) < self.hot)

    def mask(self, shape: tuple[int, int]) -> Bool:
        """Return what a beamline would mask: no data, hot pixels, beam stop; True = masked."""
        return self.absent(shape) | self.hot_pixels(shape) | self.shadow(shape, margin=2.0)


def record(expected: Float32, panel: Panel, rng: np.random.Generator) -> NDArray[Any]:
    """Return one exposure of `expected` mean counts: (rows, columns) int32 or float32."""
    shape = (expected.shape[0], expected.shape[1])
    photons = rng.poisson(expected * panel.transmission(shape) / panel.gain)
    struck = rng.integers(photons.size, size=rng.poisson(panel.zingers))
    photons.ravel()[struck] += rng.exponential(_ZINGER_COUNTS, len(struck)).astype(int)
    hot = panel.hot_pixels(shape)
    absent = panel.absent(shape)
    if panel.readout_noise is None:
        counts = photons.astype(np.int32)
        counts[hot] += 50_000
        counts[absent] = _NO_DATA
        return counts
    signal = photons * np.float32(panel.gain)
    signal = signal.astype(np.float32)
    signal += rng.normal(0.0, panel.readout_noise, shape).astype(np.float32)
    signal[hot] += 3_000.0
    signal[absent] = 0.0
    return signal

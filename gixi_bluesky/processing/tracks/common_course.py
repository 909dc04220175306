"""The amount of a phase in each frame: the common course of its lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Course", "common_course"]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_ITERATIONS = 12
_TEXTURE = 0.08  # by which a line may leave the common course, of its own intensity
_LEAST_SNR = 3.0  # of a line in all frames together
_OUTLYING = 3.0  # standard errors from which on a measurement loses weight
_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Course:
    """An amount over frames, 1 at its highest.

    frames: (n,) int64, increasing; amount, error: (n,)
    """

    frames: Int64
    amount: Float64
    error: Float64

    def __len__(self) -> int:
        return len(self.frames)

    def reversed(self) -> Course:
        """Return the course with time running backwards; frames are negated."""
        return Course(-self.frames[::-1], self.amount[::-1], self.error[::-1])


def common_course(frames: Int64, intensity: Float64, error: Float64) -> Course | None:
    """Return the common course of lines, None where there is none above the noise.

    intensity, error: (lines, n) forced measurements, NaN = no data. Lines are scaled to one
    another by least squares; one that follows another course (it may belong to two phases) loses
    its weight.
    """
    known = np.isfinite(intensity) & np.isfinite(error) & (error > 0)
    value, sigma = np.where(known, intensity, 0.0), np.where(known, error, np.inf)
    strong = (value / sigma).sum(axis=1) > _LEAST_SNR * np.sqrt(np.maximum(known.sum(axis=1), 1))
    value, sigma, known = value[strong], sigma[strong], known[strong]
    if not len(value):
        return None
    trust = np.ones(len(value))
    weight = np.where(known, sigma, np.inf) ** -2.0
    highest = _highest(value, sigma)
    course = _weighted(value / highest[:, None], known.astype(float))
    for _ in range(_ITERATIONS):
        course = course / max(float(np.abs(course).max()), _TINY)
        # A line that is seen only where there is little of the phase says little of its scale.
        norm = (weight * course**2).sum(axis=1) + 0.25 / highest**2
        scale = (weight * value * course).sum(axis=1) / norm
        pull = (np.where(scale > 0, trust, 0.0) * scale)[:, None] * weight
        total = (pull * scale[:, None]).sum(axis=0)
        course = (pull * value).sum(axis=0) / np.maximum(total, _TINY)
        expected = scale[:, None] * course
        spread = np.hypot(sigma, _TEXTURE * np.abs(expected))
        residual = np.where(known, np.abs(value - expected) / np.where(known, spread, 1.0), 0.0)
        outlying = np.minimum(1.0, _OUTLYING / np.maximum(residual, _TINY)) ** 2
        weight = np.where(known, outlying / np.where(known, spread, 1.0) ** 2, 0.0)
        trust = _trust(residual, known)
    pull = (np.where(scale > 0, trust, 0.0) * scale)[:, None] * weight
    total = (pull * scale[:, None]).sum(axis=0)
    seen = total > 0
    variance = (pull**2 / np.maximum(weight, _TINY)).sum(axis=0)
    if not seen.any():
        return None
    amount, deviation = course[seen], np.sqrt(variance[seen]) / total[seen]
    top = _smooth_maximum(amount, deviation)
    if not top > 0:
        return None
    return Course(frames[seen], amount / top, np.maximum(deviation / top, 1e-9))


def _trust(residual: Float64, known: NDArray[np.bool_]) -> Float64:
    """(lines,) 1 for lines that follow the common course, less for others, by their chi²."""
    chi2 = (residual**2).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    usual = max(float(np.median(chi2)), 1.0)
    return np.minimum(1.0, (2.0 * usual / np.maximum(chi2, 1e-12)) ** 2)


def _highest(value: Float64, sigma: Float64) -> Float64:
    top = np.quantile(value, 0.9, axis=1)
    floor = np.median(np.where(np.isfinite(sigma), sigma, 0.0), axis=1)
    return np.maximum(np.maximum(top, floor), 1e-100)  # its square is a number


def _weighted(value: Float64, weight: Float64) -> Float64:
    return (weight * value).sum(axis=0) / np.maximum(weight.sum(axis=0), 1.0)


def _smooth_maximum(amount: Float64, error: Float64) -> float:
    """Return the highest mean of three neighbours, by weight."""
    weight = error**-2.0
    kernel = np.ones(min(3, len(amount)))
    total = np.convolve(weight, kernel, mode="valid")
    return float((np.convolve(weight * amount, kernel, mode="valid") / total).max())

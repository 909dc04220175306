"""When a phase begins and ends: the posterior of a change point under several laws of growth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.tracks.common_course import Course

__all__ = ["Interval", "end_of", "onset_of"]

Float64 = NDArray[np.float64]

_LAWS = (("avrami", 1.0), ("avrami", 1.5), ("avrami", 2.0), ("avrami", 3.0), ("avrami", 4.0),
         ("ramp", 1.0), ("ramp", 1.5), ("ramp", 2.0), ("ramp", 3.0))  # fmt: skip
_STEP = 0.2  # frames between tried change points
_SCALES = 18  # time scales of growth that are tried
_MOST_FRAMES = 240  # beyond it, the course is thinned out far from the rise
_FLOOR = 0.01  # of the top, by which measurements scatter beyond their errors
_BASELINE = 0.02  # standard deviation of what is measured where there is nothing, of the top
_LEAST_FLUCTUATION = 0.01  # of the beam or the film from frame to frame, of the amount
_RISEN = 0.8  # of the top; the growth up to here decides
_PRESENT = 0.5  # of the top in the first frames: it was there before
_LEAST_SNR = 5.0  # of the whole course
_CREDIBLE = (0.025, 0.5, 0.975)


@dataclass(frozen=True, slots=True)
class Interval:
    """A frame with the bounds of its 95 % interval."""

    frame: int
    low: int
    high: int


def onset_of(course: Course) -> Interval | None:
    """Return the first frame with material of the phase; None where the course is all noise.

    The growth just after a change point t0 follows Avrami's law or a power up to a plateau, on a
    baseline that is zero but for errors of the background; all laws, time scales and heights are
    averaged over. A phase that is there at the beginning has the first frame, without a width.
    """
    if not _significant(course):
        return None
    first = int(course.frames[0])
    if _present_at_first(course):
        return Interval(first, first, first)
    rise = _rise(course)
    times, probability = _posterior(rise)
    low, middle, high = np.interp(_CREDIBLE, np.cumsum(probability), times)
    bounds = (_first_frame(t, first) for t in (middle, low, high))
    return Interval(*bounds)


def end_of(course: Course) -> Interval | None:
    """Return the last frame with material of the phase; None where it lasts to the last frame."""
    if not _significant(course):
        return None
    back = course.reversed()
    if _present_at_first(back, _LASTS):
        return None
    ended = onset_of(back)
    return ended and Interval(-ended.frame, -ended.high, -ended.low)


_LASTS = 0.15  # of the top in the last frames: it has not ended


def _significant(course: Course) -> bool:
    if len(course) < 3:
        return False
    weight = course.error**-2.0
    positive = np.maximum(course.amount, 0.0)
    return bool(np.sqrt((weight * positive**2).sum()) > _LEAST_SNR * math.sqrt(2))


def _present_at_first(course: Course, share: float = _PRESENT) -> bool:
    start = slice(0, 2)
    weight = course.error[start] ** -2.0
    mean = float((weight * course.amount[start]).sum() / weight.sum())
    return mean > share and mean > 3 / math.sqrt(weight.sum())


def _rise(course: Course) -> Course:
    """Return the course up to where it has risen, thinned out where it is long."""
    smooth = _smoothed(course)
    risen = int(np.argmax(smooth >= _RISEN * smooth.max()))
    end = min(risen + 2, len(course))
    end = max(end, min(len(course), 4))
    begin = max(0, end - _MOST_FRAMES)
    part = slice(begin, end)
    return Course(course.frames[part], course.amount[part], course.error[part])


def _smoothed(course: Course) -> Float64:
    weight = course.error**-2.0
    kernel = np.ones(3)
    total = np.convolve(weight, kernel, mode="same")
    return np.convolve(weight * course.amount, kernel, mode="same") / total


def _fluctuation(course: Course) -> float:
    """Return the scatter between neighbouring frames that the errors do not explain, relative."""
    level = np.maximum(_smoothed(course), 1e-9)[1:-1]
    bend = course.amount[1:-1] - (course.amount[:-2] + course.amount[2:]) / 2
    stated = np.sqrt(course.error[1:-1] ** 2 + (course.error[:-2] ** 2 + course.error[2:] ** 2) / 4)
    high = level > 0.3
    if high.sum() < 3:
        return _LEAST_FLUCTUATION
    seen = 1.4826 * float(np.median(np.abs(bend[high])))
    extra = max(seen**2 - float(np.median(stated[high])) ** 2, 0.0) / 1.5
    return min(max(math.sqrt(extra), _LEAST_FLUCTUATION), 0.2)


def _posterior(course: Course) -> tuple[Float64, Float64]:
    """Return the tried change points and their probabilities."""
    x = course.frames.astype(float)
    span = x[-1] - x[0]
    times = np.arange(x[0] - 1.0 - 0.1 * span, x[-1], _STEP) + _STEP / 2
    scales = np.geomspace(0.3, max(4.0 * span, 2.0), _SCALES)
    level = np.maximum(_smoothed(course), 0.0)
    variance = course.error**2 + (_fluctuation(course) * level) ** 2 + _FLOOR**2
    log_evidence = [
        _log_evidence(course.amount, variance, _grown(x, times, scales, law, order))
        for law, order in _LAWS
    ]
    total = np.logaddexp.reduce(np.stack(log_evidence), axis=(0, 2))
    probability = np.exp(total - total.max())
    return times, probability / probability.sum()


def _grown(x: Float64, times: Float64, scales: Float64, law: str, order: float) -> Float64:
    """Return the amount after each change point, (times, scales, frames)."""
    since = np.maximum(x - times[:, None, None], 0.0) / scales[:, None]
    powers = since**order
    return -np.expm1(-powers) if law == "avrami" else np.minimum(powers, 1.0)


def _log_evidence(amount: Float64, variance: Float64, shape: Float64) -> Float64:
    """Return the log likelihood, (times, scales), height and baseline integrated out.

    The height of the full growth is positive and about the top, or more where it has just begun.
    """
    weight = 1 / variance
    base = _BASELINE**-2.0 + weight.sum()
    s1 = shape @ weight
    ss = (shape**2) @ weight
    sy = shape @ (weight * amount)
    y1, yy = float(weight @ amount), float(weight @ amount**2)
    # The baseline first, then the height.
    ss, sy, yy = ss - s1**2 / base, sy - s1 * y1 / base, yy - y1**2 / base
    ss = np.maximum(ss, 1e-12)
    height = sy / ss
    reached = shape[..., -1]
    plausible = (height * reached > 0) & (height < 30)
    log_likelihood = 0.5 * (sy**2 / ss - yy) - 0.5 * np.log(ss * 900)
    return np.where(plausible, log_likelihood, -np.inf)


def _first_frame(time: float, first: int) -> int:
    return max(math.floor(time) + 1, first)

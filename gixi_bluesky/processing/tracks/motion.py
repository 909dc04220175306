"""Expected places of tracks: |q| by a Kalman filter of position and rate, the rest by averages."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.tables import Peaks

__all__ = ["UNNUMBERED", "Motion"]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Index = NDArray[np.intp]

UNNUMBERED = -1

_RATE = 8e-4  # |dq|/q a frame, standard deviation of an unknown rate
_RATE_CHANGE = 3e-5  # of the rate over q, a frame
_WANDER = 1.5e-4  # of q over q, a frame, beside the rate
_RATE_MEMORY = 0.9  # of the rate, a frame without a peak
_PLACEMENT = 0.1  # of a fit by neighbours and background, in FWHM
_WIDEST = 0.4  # uncertainty of q in FWHM, however long ago the last peak
_SMOOTHING = 0.3  # weight of a new peak in the averages


@dataclass(slots=True)
class Motion:
    """The state of all tracks that may still be continued, one entry each.

    number: int64, UNNUMBERED while it may be a false peak
    q, rate: 1/angstrom and 1/angstrom a frame; q_variance, mixed, rate_variance: covariance
    phi, fwhm_q, fwhm_phi, log_intensity: averages of the latest peaks
    first, last: frames of the first and the latest peak; hits: how many
    """

    number: Int64
    q: Float64
    rate: Float64
    q_variance: Float64
    mixed: Float64
    rate_variance: Float64
    phi: Float64
    fwhm_q: Float64
    fwhm_phi: Float64
    log_intensity: Float64
    first: Int64
    last: Int64
    hits: Int64

    @classmethod
    def of(cls, peaks: Peaks, chosen: Index, numbers: Int64, frame: int) -> Motion:
        """Begin a track with each of the chosen peaks."""
        q = peaks.q[chosen]
        at = np.full(len(chosen), frame, np.int64)
        return cls(
            number=numbers,
            q=q.copy(),
            rate=np.zeros(len(q)),
            q_variance=placement_variance(peaks)[chosen],
            mixed=np.zeros(len(q)),
            rate_variance=(_RATE * q) ** 2,
            phi=peaks.phi[chosen].copy(),
            fwhm_q=peaks.fwhm_q[chosen].copy(),
            fwhm_phi=peaks.fwhm_phi[chosen].copy(),
            log_intensity=log_intensity(peaks)[chosen],
            first=at,
            last=at.copy(),
            hits=np.ones(len(q), np.int64),
        )

    def __len__(self) -> int:
        return len(self.q)

    def joined(self, other: Motion) -> Motion:
        """Return the tracks of both."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Motion(*(np.concatenate(pair) for pair in pairs))

    def kept(self, index: NDArray[np.bool_] | Index) -> Motion:
        """Return some of the tracks."""
        return Motion(*(getattr(self, f.name)[index] for f in fields(self)))

    def predict(self, frame: int) -> None:
        """Move every track on to a frame, from the one it was moved to or seen in last."""
        # A track without a peak in the frame before slows down: its rate is old news.
        quiet = frame - 1 - self.last > 0
        self.rate = np.where(quiet, _RATE_MEMORY * self.rate, self.rate)
        self.q = self.q + self.rate
        wander = (_WANDER * self.q) ** 2
        self.q_variance = self.q_variance + 2 * self.mixed + self.rate_variance + wander
        self.mixed = self.mixed + self.rate_variance
        self.rate_variance = self.rate_variance + (_RATE_CHANGE * self.q) ** 2
        self.rate_variance = np.minimum(self.rate_variance, (_RATE * self.q) ** 2)
        limit = (_WIDEST * self.fwhm_q) ** 2
        shrink = np.minimum(1.0, limit / self.q_variance)
        self.q_variance, self.mixed = self.q_variance * shrink, self.mixed * shrink

    def update(self, tracks: Index, peaks: Peaks, chosen: Index, frame: int) -> None:
        """Take one peak for each of some tracks."""
        measured = placement_variance(peaks)[chosen]
        p00, p01 = self.q_variance[tracks], self.mixed[tracks]
        total = p00 + measured
        gain, rate_gain = p00 / total, p01 / total
        off = peaks.q[chosen] - self.q[tracks]
        self.q[tracks] += gain * off
        self.rate[tracks] += rate_gain * off
        self.q_variance[tracks] = (1 - gain) * p00
        self.mixed[tracks] = (1 - gain) * p01
        self.rate_variance[tracks] -= rate_gain * p01
        weight = np.maximum(_SMOOTHING, 1.0 / (self.hits[tracks] + 1))
        for name, values in (
            ("phi", peaks.phi),
            ("fwhm_q", peaks.fwhm_q),
            ("fwhm_phi", peaks.fwhm_phi),
            ("log_intensity", log_intensity(peaks)),
        ):
            state = getattr(self, name)
            state[tracks] += weight * (values[chosen] - state[tracks])
        self.last[tracks] = frame
        self.hits[tracks] += 1


def placement_variance(peaks: Peaks) -> Float64:
    """(m,) variance of |q| of peaks, 1/angstrom², with what the fit does not know of."""
    error = np.where(np.isfinite(peaks.q_error), peaks.q_error, peaks.fwhm_q / 2)
    return np.asarray(error**2 + (_PLACEMENT * peaks.fwhm_q) ** 2 + 1e-12)


def log_intensity(peaks: Peaks) -> Float64:
    """(m,) natural logarithm of the intensity; of its error where there is less than that."""
    error = np.nan_to_num(peaks.intensity_error, nan=1e-12)
    return np.log(np.maximum(np.maximum(peaks.intensity, error), 1e-12))

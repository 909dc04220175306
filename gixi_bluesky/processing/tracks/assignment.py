"""Assignment of peaks to tracks by the least total cost among possible pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from gixi_bluesky.processing.tables import Peaks
from gixi_bluesky.processing.tracks.motion import Motion, log_intensity, placement_variance

__all__ = ["assign", "doubles", "second_boxes"]

Float64 = NDArray[np.float64]
Index = NDArray[np.intp]
Bool = NDArray[np.bool_]

_REACH_SIGMAS, _REACH_FWHM = 4.5, 1.0  # how far in q a peak may lie from its track
_LEAST_OVERLAP = 0.15  # in phi, of the narrower one
_PHI_SHARE, _PHI_DEG = 0.18, 0.8  # standard deviation of phi: share of the width, and at least
_LOG_WIDTH_PHI, _LOG_WIDTH_Q, _LOG_INTENSITY = 0.4, 0.4, 0.7  # standard deviations
_UNASSIGNED = 22.0  # cost of a peak that begins a track of its own
_YOUNG = 2.0  # more for a track that may be a false peak
_DOUBLE_Q, _DOUBLE_PHI = 0.6, 0.5  # FWHM apart at most; overlap times ratio of widths at least


def assign(motion: Motion, peaks: Peaks) -> tuple[Index, Index]:
    """Return the tracks that are continued and the peaks that do so, (n,) each.

    Only tracks near a peak enter, so the cost does not grow with all that was ever seen.
    """
    if not len(motion) or not len(peaks):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    order = np.argsort(peaks.q, kind="stable")
    reach = _REACH_FWHM * (motion.fwhm_q + peaks.fwhm_q.max()) / 2
    low = np.searchsorted(peaks.q[order], motion.q - reach)
    high = np.searchsorted(peaks.q[order], motion.q + reach)
    tracks = np.flatnonzero(high > low)
    cost = _cost(motion.kept(tracks), peaks)
    rows, columns = linear_sum_assignment(np.minimum(cost, _UNASSIGNED))
    good = cost[rows, columns] < _UNASSIGNED
    return tracks[rows[good]], columns[good]


def doubles(peaks: Peaks, taken: Index, free: Index) -> Bool:
    """(k,) which of the free peaks lie on one that continues a track: the same peak twice."""
    return np.asarray(_same(peaks, free, taken).any(axis=1))


def second_boxes(peaks: Peaks, taken: Index, hits: NDArray[np.int64]) -> Bool:
    """(n,) which peaks that continue tracks lie on one whose track had more peaks.

    hits: (n,) peaks of each track so far; of equal ones the first counts as the longer track
    """
    number = np.arange(len(taken))
    longer = (hits > hits[:, None]) | ((hits == hits[:, None]) & (number < number[:, None]))
    return np.asarray((_same(peaks, taken, taken) & longer).any(axis=1))


def _same(peaks: Peaks, some: Index, others: Index) -> Bool:
    """(k, n) which pairs are one peak twice: much the same place and arc."""
    apart = np.abs(peaks.q[some][:, None] - peaks.q[others])
    near = apart < _DOUBLE_Q * np.minimum(peaks.fwhm_q[some][:, None], peaks.fwhm_q[others])
    one, other = ((peaks.phi[i], peaks.fwhm_phi[i]) for i in (some, others))
    narrow = np.minimum(one[1][:, None], other[1]) / np.maximum(one[1][:, None], other[1])
    return near & (_overlap(one, other) * narrow > _DOUBLE_PHI)


def _cost(motion: Motion, peaks: Peaks) -> Float64:
    """(tracks, peaks) twice the negative log likelihood of each pair, inf where it may not be."""
    off = peaks.q - motion.q[:, None]
    variance = motion.q_variance[:, None] + placement_variance(peaks)
    width_q = np.log(peaks.fwhm_q / motion.fwhm_q[:, None])
    width_phi = np.log(peaks.fwhm_phi / motion.fwhm_phi[:, None])
    wide = np.maximum(peaks.fwhm_phi, motion.fwhm_phi[:, None])
    phi = (peaks.phi - motion.phi[:, None]) / (_PHI_SHARE * wide + _PHI_DEG)
    bright = log_intensity(peaks) - motion.log_intensity[:, None]
    cost = (
        off**2 / variance
        + phi**2
        + (width_phi / _LOG_WIDTH_PHI) ** 2
        + (width_q / _LOG_WIDTH_Q) ** 2
        + np.minimum((bright / _LOG_INTENSITY) ** 2, 9.0)
    )
    cost += np.where(motion.number[:, None] < 0, _YOUNG, 0.0)
    fwhm = (peaks.fwhm_q + motion.fwhm_q[:, None]) / 2
    reach = np.minimum(_REACH_SIGMAS * np.sqrt(variance), _REACH_FWHM * fwhm)
    shared = _overlap((motion.phi, motion.fwhm_phi), (peaks.phi, peaks.fwhm_phi))
    return np.where((np.abs(off) < reach) & (shared > _LEAST_OVERLAP), cost, np.inf)


def _overlap(one: tuple[Float64, Float64], other: tuple[Float64, Float64]) -> Float64:
    """(n, m) shared part in phi of arcs given by centre and FWHM, over the narrower one."""
    (phi_a, width_a), (phi_b, width_b) = one, other
    half_a, half_b = 0.85 * width_a[:, None] + 0.3, 0.85 * width_b + 0.3
    low = np.maximum(phi_a[:, None] - half_a, phi_b - half_b)
    high = np.minimum(phi_a[:, None] + half_a, phi_b + half_b)
    return np.asarray(np.maximum(high - low, 0) / (2 * np.minimum(half_a, half_b)))

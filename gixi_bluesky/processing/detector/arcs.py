"""The search of the classical detector: the most significant arc first, until none is left.

Every peak found takes its pixels out of the fits of all others, so a ring's side lobes and the
parts of an arc are found once; a spot that more than doubles the ring it sits on is a peak too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.detector.profiles import (
    REACH,
    SIGMA,
    Arcs,
    Blocks,
    arcs_of_every_height,
    local_noise,
)
from gixi_bluesky.processing.detector.widths import fit_width

__all__ = ["Peak", "Search"]

Map = NDArray[np.float32]
Profile = NDArray[np.floating]

_BLOCKS = 128  # of rows, in which the image is first summed
_SCALES = 4  # widths: standard deviations of 1.5, 3, 6 and 12 columns
_MOST = 500  # peaks per image
_PASSES = 2
_EVEN = 0.35  # median over mean along phi, above which an arc is a ring and not spots
_TAIL = 0.135  # of the maximum, where an arc ends
_CORE = 1.25  # of the FWHM to either side, that belong to a peak
_FREE, _RING, _SPOT = range(3)


@dataclass(frozen=True, slots=True)
class Peak:
    """A box [q0, phi0, q1, phi1] in pixels, its significance in standard deviations of the noise.

    length: share of the quarter circle that the arc covers
    """

    box: tuple[float, float, float, float]
    significance: float
    length: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    significance: float
    scale: int
    start: int  # first block
    height: int  # blocks
    column: int  # in samples of its scale
    noise: float

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.height)

    @property
    def centre(self) -> int:
        return self.start + self.height // 2


@dataclass(slots=True)
class _Scale:
    """The fits of one width: all pixels, and the pixels no peak has taken yet (free)."""

    blocks: Blocks
    amplitude: Map
    information: Map
    free: Blocks
    free_amplitude: Map
    free_information: Map


class Search:
    """Finds the peaks of one image, (n_phi, n_q) float32 with NaN = no data."""

    def __init__(self, image: Map, floor: float) -> None:
        self._floor = floor
        self._shape = image.shape
        self._scales: list[_Scale] = []
        blocks = Blocks.of(image, max(1, image.shape[0] // _BLOCKS))
        for _ in range(_SCALES):
            fits = blocks.fit()
            copies = (fits[0].copy(), fits[1].copy())
            self._scales.append(_Scale(blocks, *fits, blocks.copy(), *copies))
            blocks = blocks.halved()
        self._finest = self._scales[0].blocks
        self._taken: NDArray[np.uint8] = np.zeros(self._finest.sums.shape, np.uint8)

    def peaks(self) -> list[Peak]:
        """Return the peaks found in a few passes.

        Strong peaks raise the noise around them, so what they hid is looked for once they are out.
        """
        found: list[Peak] = []
        for _ in range(_PASSES):
            candidates = self._candidates()
            # Rings first, or the brightest grains of a ring would be taken for spots.
            candidates.sort(key=lambda c: (not self._is_even(c), -c.significance))
            before = len(found)
            for candidate in candidates:
                peak = self._examined(candidate)
                if peak is not None:
                    found.append(peak)
                if len(found) == _MOST:
                    return found
            if len(found) == before:
                break
        return found

    def _candidates(self) -> list[_Candidate]:
        """Local maxima of the significance over place, for every width and height of arc."""
        found: list[_Candidate] = []
        for index, scale in enumerate(self._scales):
            single: Map | None = None
            for arcs in arcs_of_every_height(scale.free_amplitude, scale.free_information):
                rise, usable = arcs.significance, arcs.information > 0
                noise = local_noise(rise, usable, (16, 64 if index < 2 else 32))
                if single is None:
                    single = noise
                # The noise of a mean is no smaller than independent blocks would have it.
                noise = np.maximum(noise, 0.8 * cv2.resize(single, rise.shape[::-1]))
                z = np.where(usable, rise / np.maximum(noise, 1e-12), 0)
                found += _local_maxima(z, noise, index, arcs, self._floor)
        return found

    def _is_even(self, candidate: _Candidate) -> bool:
        """Tell a ring, or a long arc of one, by the median along phi."""
        if candidate.height < len(self._taken) // 4:
            return False
        scale = self._scales[candidate.scale]
        here = np.s_[candidate.rows, candidate.column]
        along = scale.free_amplitude[here][scale.free_information[here] > 0]
        return bool(along.size and np.median(along) > _EVEN * along.mean())

    def _examined(self, candidate: _Candidate) -> Peak | None:
        """Measure a candidate on the pixels no other peak has taken; None if nothing is left."""
        scale = self._scales[candidate.scale]
        column = min(candidate.column * scale.blocks.step, self._taken.shape[1] - 1)
        owner = self._taken[candidate.centre, column]
        here = np.s_[candidate.rows, candidate.column]
        if owner and candidate.height <= len(self._taken) // 8:
            if owner == _SPOT:
                return None
            return self._on_a_ring(candidate, scale.amplitude[here], scale.information[here])
        if owner == _RING:
            return None
        information = scale.free_information[here]
        total = float(information.sum())
        if total <= 0.3 * float(scale.information[here].sum()):
            return None
        risen = float((scale.free_amplitude[here] * information).sum()) / np.sqrt(total)
        if risen < self._floor * candidate.noise:
            return None
        amplitude, information = (
            a[:, candidate.column] for a in (scale.free_amplitude, scale.free_information)
        )
        return self._measured(candidate, risen / candidate.noise, amplitude, information)

    def _on_a_ring(
        self, candidate: _Candidate, amplitudes: Profile, information: Profile
    ) -> Peak | None:
        """Accept a spot that more than doubles its ring and stands out of the ring's grain."""
        scale = self._scales[candidate.scale]
        profile, weight = (a[:, candidate.column] for a in (scale.amplitude, scale.information))
        along = profile[weight > 0]
        ring = float(np.median(along))
        grain = 1.4826 * float(np.median(np.abs(along - ring)))
        total = float(information.sum())
        if total == 0:
            return None
        excess = float((amplitudes * information).sum()) / total - ring
        noise = np.hypot(candidate.noise / np.sqrt(total), 2 * grain)
        if excess < ring or excess < self._floor * noise:
            return None
        return self._measured(candidate, excess / noise, profile - np.float32(ring), weight, _SPOT)

    def _measured(
        self,
        candidate: _Candidate,
        z: float,
        amplitude: Profile,
        information: Profile,
        owner: int = _RING,
    ) -> Peak | None:
        phi = _phi_extent(candidate, z, amplitude, information)
        inside = slice(int(np.ceil(phi[0] - 0.25)), int(phi[1] + 0.25) + 1)
        if owner == _RING and inside.stop - inside.start <= len(self._taken) // 8:
            owner = _SPOT
        step = self._scales[candidate.scale].blocks.step
        source = self._finest if owner == _SPOT else self._scales[0].free
        q = fit_width(
            source.sums[inside].sum(axis=0),
            source.weights[inside].sum(axis=0),
            centre=(candidate.column + 0.5) * step - 0.5,
            sigma=SIGMA * step,
        )
        if q is None:
            return None
        rows, top, right = self._finest.rows, self._shape[0] - 1, self._shape[1] - 1
        low, high = (float(np.clip((p + 0.5) * rows - 0.5, 0, top)) for p in phi)
        # Pixels of the detector, about a column wide, are taller where |q| is small.
        pixel = self._shape[0] / (0.5 * np.pi) / max(q[0], 1)
        if q[1] - q[0] < 3.2 and high - low < 2.5 * pixel + 2 * rows:
            return None
        tails = 1 + min(int(0.4 * (phi[1] - phi[0])), 8)
        self._take(slice(max(inside.start - tails, 0), inside.stop + tails), q, owner)
        box = (max(q[0], 0.0), low, min(q[1], right), high)
        return Peak(box, z, (phi[1] - phi[0]) / len(self._taken))

    def _take(self, rows: slice, q: tuple[float, float], owner: int) -> None:
        """Give the pixels around a peak to it and fit its surroundings again without them."""
        centre, reach = 0.5 * (q[0] + q[1]), _CORE * (q[1] - q[0])
        for scale in self._scales:
            step, n = scale.blocks.step, scale.blocks.sums.shape[1]
            low = max(int(np.floor((centre - reach) / step)), 0)
            high = min(int(np.ceil((centre + reach) / step)) + 1, n)
            scale.free.weights[rows, low:high] = 0
            scale.free.sums[rows, low:high] = 0
            around = slice(max(low - REACH, 0), min(high + REACH, n))
            scale.free_amplitude[rows, around], scale.free_information[rows, around] = (
                scale.free.fit(around, rows)
            )
        self._taken[rows, max(int(centre - reach), 0) : int(centre + reach) + 1] = owner


def _local_maxima(z: Map, noise: Map, scale: int, arcs: Arcs, floor: float) -> Iterator[_Candidate]:
    high = (z > floor) & (z >= cv2.dilate(z, np.ones((3, 5), np.uint8)))
    for row, column in zip(*np.nonzero(high), strict=True):
        yield _Candidate(
            significance=float(z[row, column]),
            scale=scale,
            start=int(row) * arcs.stride,
            height=arcs.height,
            column=int(column),
            noise=float(noise[row, column]),
        )


def _phi_extent(
    candidate: _Candidate, z: float, amplitude: Profile, information: Profile
) -> tuple[float, float]:
    """Where the profile along phi is above 13.5 % of its maximum, in (fractional) blocks.

    The profile is averaged over an eighth of the arc, so that the grain of a ring is not its
    maximum, and at least over what gives a significance of about 4 each.
    """
    known = information > 0
    first, last = candidate.start, candidate.start + candidate.height
    start, end = float(first), float(last)
    for _ in range(3):
        rows = np.arange(first, last)
        rows = rows[known[rows]]
        window = int(max((last - first) / 8, (last - first) * min(4 / z, 1) ** 2)) | 1
        kernel = np.ones(window)
        weight = np.convolve(information, kernel, "same")
        profile = np.convolve(amplitude * information, kernel, "same") / np.maximum(weight, 1e-9)
        top = int(rows[np.argmax(profile[rows])])
        if last - first <= len(profile) // 8:
            profile = profile - _ring_under(profile[top], profile[known])
        level = _TAIL * profile[top]
        below = np.flatnonzero(known & (profile < level))
        start = _crossing(profile, known, level, below[below < top][::-1], -1)
        end = _crossing(profile, known, level, below[below > top], 1)
        if end - start > 0.6 * (last - first):
            break
        first, last = max(int(np.ceil(start)), 0), min(int(end), len(known) - 1) + 1
        if not known[first:last].any():
            break
    return start, end


def _ring_under(top: float, along: Profile) -> float:
    """Return the level of the ring a spot sits on: even along phi and at most half as high."""
    low, middle = np.quantile(along, [0.25, 0.5])
    return float(low) if low > 0.5 * middle > 0 and top > 2 * middle else 0.0


def _crossing(
    profile: Profile, known: NDArray[np.bool_], level: float, below: NDArray[np.intp], step: int
) -> float:
    """Return where the profile first falls to `level`, bridging unknown blocks."""
    if not below.size:
        ends = np.flatnonzero(known)
        return float(ends[-1 if step > 0 else 0]) + 0.5 * step
    outer = int(below[0])
    inner = outer - step
    if not known[inner]:
        while not known[inner]:
            inner -= step
        return inner + 0.5 * step
    fall = (profile[inner] - level) / max(profile[inner] - profile[outer], 1e-12)
    return inner + step * float(fall)

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

from gixi_bluesky.processing.detector.classical.significance import (
    REACH,
    SIGMA,
    Arcs,
    BlockSums,
    arcs_of_every_height,
    local_noise,
)
from gixi_bluesky.processing.detector.classical.widths import fit_width

__all__ = ["ArcPeak", "Search"]

Map = NDArray[np.float32]
Profile = NDArray[np.floating]

_BLOCKS = 128  # of rows, in which the image is first summed
_SCALES = 4  # widths: standard deviations of 1.5, 3, 6 and 12 columns
_MOST = 500  # peaks per image
_PASSES = 2
_EVEN = 0.35  # median over mean along phi, above which an arc is a ring and not spots
_TAIL = 0.135  # of the maximum, where an arc ends
_CORE, _WINGS = 0.75, 0.15  # of the FWHM to either side belong to a peak; more if it is strong
_FREE, _RING, _SPOT = range(3)


@dataclass(frozen=True, slots=True)
class ArcPeak:
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


@dataclass(frozen=True, slots=True)
class _Level:
    """Significance and noise of all arcs of one height and width."""

    arcs: Arcs
    z: Map
    noise: Map

    def maxima(self, taller: _Level | None, scale: int, floor: float) -> Iterator[_Candidate]:
        """Yield the local maxima above `floor` that no arc of twice the height outdoes."""
        high = (self.z > floor) & (self.z >= cv2.dilate(self.z, np.ones((3, 5), np.uint8)))
        rows, columns = np.nonzero(high)
        starts, z = rows * self.arcs.stride, self.z[rows, columns]
        if taller is not None:
            above = (starts - self.arcs.height // 2 + taller.arcs.stride // 2) // taller.arcs.stride
            most = cv2.dilate(taller.z, np.ones((1, 3), np.uint8))
            kept = z >= most[above.clip(0, len(most) - 1), columns]
            rows, columns, starts, z = rows[kept], columns[kept], starts[kept], z[kept]
        noise, height = self.noise[rows, columns], self.arcs.height
        for values in zip(
            z.tolist(), starts.tolist(), columns.tolist(), noise.tolist(), strict=True
        ):
            yield _Candidate(values[0], scale, values[1], height, values[2], values[3])


@dataclass(slots=True)
class _Scale:
    """The fits of one width: all pixels, and the pixels no peak has taken yet (free)."""

    blocks: BlockSums
    amplitude: Map
    information: Map
    free: BlockSums
    free_amplitude: Map
    free_information: Map


class Search:
    """Finds the peaks of one image, (n_phi, n_q) float32 with NaN = no data."""

    def __init__(self, image: Map, floor: float) -> None:
        self._floor = floor
        self._shape = image.shape
        self._scales: list[_Scale] = []
        blocks = BlockSums.of(image, max(1, image.shape[0] // _BLOCKS))
        for _ in range(_SCALES):
            fits = blocks.fit()
            copies = (fits[0].copy(), fits[1].copy())
            self._scales.append(_Scale(blocks, *fits, blocks.copy(), *copies))
            blocks = blocks.halved()
        self._finest = self._scales[0].blocks
        self._rings: dict[tuple[int, int], tuple[float, float]] = {}
        self._taken: NDArray[np.uint8] = np.zeros(self._finest.sums.shape, np.uint8)

    def peaks(self) -> list[ArcPeak]:
        """Return the peaks found in a few passes.

        Strong peaks raise the noise around them, so what they hid is looked for once they are out.
        """
        found: list[ArcPeak] = []
        for _ in range(_PASSES):
            before = len(found)
            for candidate in self._in_order(self._candidates()):
                peak = self._examined(candidate)
                if peak is not None:
                    found.append(peak)
                if len(found) == _MOST:
                    return found
            if len(found) == before:
                break
        return found

    def _candidates(self) -> list[_Candidate]:
        """Local maxima of the significance over place and height, for every width."""
        found: list[_Candidate] = []
        for index, scale in enumerate(self._scales):
            levels: list[_Level] = []
            for arcs in arcs_of_every_height(scale.free_amplitude, scale.free_information):
                rise, usable = arcs.significance, arcs.information > 0
                noise = local_noise(rise, usable, (16, 64 if index < 2 else 32))
                if levels:
                    # The noise of a mean is no smaller than independent blocks would have it.
                    single = cv2.resize(levels[0].noise, rise.shape[::-1])
                    noise = np.maximum(noise, 0.8 * single)
                z = np.where(usable, rise / np.maximum(noise, 1e-12), 0)
                levels.append(_Level(arcs, z, noise))
            for level, taller in zip(levels, [*levels[1:], None], strict=True):
                found += level.maxima(taller, index, self._floor)
        return found

    def _in_order(self, candidates: list[_Candidate]) -> list[_Candidate]:
        """Rings first, or their brightest grains would be taken for spots; then by significance."""
        step = np.array([1 << c.scale for c in candidates])
        column = np.array([c.column for c in candidates]) * step + step // 2
        centre = np.array([c.centre for c in candidates])
        significance = np.array([c.significance for c in candidates])
        tall = np.array([c.height >= len(self._taken) // 4 for c in candidates], bool)

        def comes_first(index: int) -> bool:
            candidate = candidates[index]
            if not tall[index] or not self._is_even(candidate):
                return False
            inside = ~tall & (np.abs(centre - candidate.centre) <= candidate.height // 2)
            inside &= np.abs(column - column[index]) <= 2 * np.maximum(step, step[index])
            return bool(candidate.significance > 0.5 * significance[inside].max(initial=0))

        order = sorted(range(len(candidates)), key=lambda i: (not comes_first(i), -significance[i]))
        return [candidates[i] for i in order]

    def _is_even(self, candidate: _Candidate) -> bool:
        """Return whether this is a ring or a long arc of one, by the median along phi."""
        scale = self._scales[candidate.scale]
        here = np.s_[candidate.rows, candidate.column]
        along = scale.free_amplitude[here][scale.free_information[here] > 0]
        return bool(along.size and np.median(along) > _EVEN * along.mean())

    def _examined(self, candidate: _Candidate) -> ArcPeak | None:
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
        risen = float(scale.free_amplitude[here] @ information) / total**0.5
        if risen < self._floor * candidate.noise:
            return None
        amplitude, information = (
            a[:, candidate.column] for a in (scale.free_amplitude, scale.free_information)
        )
        return self._measured(candidate, risen / candidate.noise, amplitude, information)

    def _on_a_ring(
        self, candidate: _Candidate, amplitudes: Profile, information: Profile
    ) -> ArcPeak | None:
        """Accept a spot that more than doubles its ring and stands out of the ring's grain."""
        scale = self._scales[candidate.scale]
        ring, grain = self._ring(candidate.scale, candidate.column)
        total = float(information.sum())
        if total == 0:
            return None
        excess = float(amplitudes @ information) / total - ring
        noise = float(np.hypot(candidate.noise / np.sqrt(total), 2 * grain))
        if excess < ring or excess < self._floor * noise:
            return None
        profile, weight = (a[:, candidate.column] for a in (scale.amplitude, scale.information))
        return self._measured(candidate, excess / noise, profile - np.float32(ring), weight, _SPOT)

    def _ring(self, scale: int, column: int) -> tuple[float, float]:
        """Return the level of a ring along phi and its grain, the scatter of its blocks."""
        if (scale, column) not in self._rings:
            fits = self._scales[scale]
            along = fits.amplitude[:, column][fits.information[:, column] > 0]
            level = float(np.median(along))
            grain = 1.4826 * float(np.median(np.abs(along - level)))
            self._rings[scale, column] = level, grain
        return self._rings[scale, column]

    def _measured(
        self,
        candidate: _Candidate,
        z: float,
        amplitude: Profile,
        information: Profile,
        owner: int = _RING,
    ) -> ArcPeak | None:
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
        tails = 1 if owner == _SPOT else 8
        reach = (q[1] - q[0]) * (_CORE + _WINGS * np.log(max(z / 5, 1)))
        self._take(
            slice(max(inside.start - tails, 0), inside.stop + tails),
            0.5 * (q[0] + q[1]),
            reach,
            owner,
        )
        if _is_one_pixel(q[1] - q[0], high - low, rows, self._shape[0], q[0]):
            return None
        box = (max(q[0], 0.0), low, min(q[1], right), high)
        return ArcPeak(box, z, (phi[1] - phi[0]) / len(self._taken))

    def _take(self, rows: slice, centre: float, reach: float, owner: int) -> None:
        """Assign the pixels around a peak to it and fit its surroundings again without them."""
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


def _is_one_pixel(width: float, height: float, rows: int, n_phi: int, q: float) -> bool:
    """Return whether this is a hot pixel or a cosmic ray: narrow, and at most a few pixels tall.

    Pixels of the detector, about a column wide, cover more rows where |q| is small.
    """
    pixel = n_phi / (0.5 * np.pi) / max(q, 1)
    few = height < 2.5 * pixel + 2 * rows
    return (width < 3.2 and few) or (width < 2.5 and height < n_phi / 8)


def _phi_extent(
    candidate: _Candidate, z: float, amplitude: Profile, information: Profile
) -> tuple[float, float]:
    """Return where the profile along phi exceeds 13.5 % of its maximum, in (fractional) blocks.

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

"""Significance of a peak of a given width and height at every place of a polar image.

Along q each profile is fitted with a Gaussian on a parabola by weighted least squares, the weights
being the number of valid pixels, so that gaps, the missing wedge and the halo of a wet film are
background by construction. Along phi the fits are averaged over arcs of every height.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Arcs", "BlockSums", "arcs_of_every_height", "gaussian_amplitudes", "local_noise"]

Map = NDArray[np.float32]

REACH = 6  # half window of a fit, samples: 4 sigma of the Gaussian
SIGMA = 1.5  # of the Gaussian, samples
_INFORMATION = 0.3  # a fit with less than this share of a full window's information is not trusted
_QUANTILE, _QUANTILE_OF_NORMAL = 0.4, 0.5244  # of |noise|; robust against crowded peaks

_u = np.arange(-REACH, REACH + 1) / REACH
_g = np.exp(-0.5 * (_u * REACH / SIGMA) ** 2)
_RIGHT = np.stack([_g, _u**0, _u, _u**2], axis=1).astype(np.float32)
_MOMENTS = np.stack(
    [_g**2, _g, _g * _u, _g * _u**2, _u**0, _u, _u**2, _u**3, _u**4], axis=1
).astype(np.float32)


@dataclass(frozen=True, slots=True)
class BlockSums:
    """An image summed over a few rows, and over `step` columns: (n_blocks, columns) float32.

    sums: sum of the valid pixels; weights: their number; rows: rows a block holds
    """

    sums: Map
    weights: Map
    rows: int
    step: int = 1

    @classmethod
    def of(cls, image: Map, rows: int) -> BlockSums:
        """Sum the valid pixels of (n_phi, n_q) over blocks of `rows` rows."""
        valid = np.isfinite(image)
        n = image.shape[0] // rows * rows
        shape = (n // rows, rows, image.shape[1])
        filled = np.where(valid, image, np.float32(0))
        return cls(
            filled[:n].reshape(shape).sum(axis=1),
            valid[:n].reshape(shape).sum(axis=1, dtype=np.float32),
            rows,
        )

    def copy(self) -> BlockSums:
        """Return blocks whose pixels can be taken out without changing these."""
        return BlockSums(self.sums.copy(), self.weights.copy(), self.rows, self.step)

    def halved(self) -> BlockSums:
        """Sum pairs of columns."""
        n = self.sums.shape[1] // 2 * 2
        return BlockSums(
            self.sums[:, :n:2] + self.sums[:, 1:n:2],
            self.weights[:, :n:2] + self.weights[:, 1:n:2],
            self.rows,
            self.step * 2,
        )

    def fit(self, columns: slice = np.s_[:], rows: slice = np.s_[:]) -> tuple[Map, Map]:
        """Fit the windows around these columns: amplitude and information, (rows, columns).

        The amplitude is the peak's mean height; information is the inverse of its variance in
        units of a pixel's variance, 0 where too few pixels are valid for a trustworthy fit.
        """
        n = self.sums.shape[1]
        start, stop, _ = columns.indices(n)
        inside = np.s_[rows, max(start - REACH, 0) : stop + REACH]
        pad = ((0, 0), (max(REACH - start, 0), max(stop + REACH - n, 0)))
        amplitude, information = gaussian_amplitudes(
            np.pad(self.sums[inside], pad), np.pad(self.weights[inside], pad)
        )
        enough = information > _INFORMATION * _FULL_INFORMATION * self.rows * self.step
        return np.where(enough, amplitude, 0), np.where(enough, information, 0)


def gaussian_amplitudes(sums: Map, weights: Map) -> tuple[Map, Map]:
    """Fit a Gaussian of known width and centre on a parabola to every window along the last axis.

    sums, weights: (rows, columns + 2 REACH) → amplitude, information: (rows, columns)
    """
    view = np.lib.stride_tricks.sliding_window_view
    size = 2 * REACH + 1
    gg, g0, g1, g2, m0, m1, m2, m3, m4 = np.moveaxis(view(weights, size, axis=-1) @ _MOMENTS, -1, 0)
    rg, r0, r1, r2 = np.moveaxis(view(sums, size, axis=-1) @ _RIGHT, -1, 0)
    # The background (three by three) is eliminated by the adjugate of its normal matrix.
    a00, a01, a02 = m2 * m4 - m3 * m3, m2 * m3 - m1 * m4, m1 * m3 - m2 * m2
    a11, a12, a22 = m0 * m4 - m2 * m2, m1 * m2 - m0 * m3, m0 * m2 - m1 * m1
    determinant = m0 * a00 + m1 * a01 + m2 * a02
    solvable = determinant > 1e-3 * m0**3
    scale = 1 / np.where(solvable, determinant, np.float32(1))
    b0 = (a00 * g0 + a01 * g1 + a02 * g2) * scale
    b1 = (a01 * g0 + a11 * g1 + a12 * g2) * scale
    b2 = (a02 * g0 + a12 * g1 + a22 * g2) * scale
    remaining = gg - (b0 * g0 + b1 * g1 + b2 * g2)
    information: Map = np.where(solvable & (remaining > 0), remaining, np.float32(0))
    amplitude: Map = (rg - (b0 * r0 + b1 * r1 + b2 * r2)) / np.maximum(
        information, np.float32(1e-9)
    )
    return np.where(information > 0, amplitude, np.float32(0)), information


_FULL_INFORMATION = float(
    gaussian_amplitudes(np.zeros((1, _u.size), np.float32), np.ones((1, _u.size), np.float32))[1][
        0, 0
    ]
)


@dataclass(frozen=True, slots=True)
class Arcs:
    """Fits averaged over arcs of `height` blocks that start every `stride` blocks.

    rise: sum of amplitude · information; information: (arcs, columns) float32 each
    """

    rise: Map
    information: Map
    height: int
    stride: int

    @property
    def significance(self) -> Map:
        """Amplitude over the standard deviation that unit pixel variance would give."""
        deviation: Map = np.sqrt(np.maximum(self.information, np.float32(1e-9)))
        return self.rise / deviation


def arcs_of_every_height(amplitude: Map, information: Map) -> Iterator[Arcs]:
    """Double the arcs from one block to all, overlapping by three quarters or more."""
    arcs = Arcs(amplitude * information, information, 1, 1)
    while True:
        yield arcs
        height, stride = 2 * arcs.height, max(arcs.height // 2, 1)
        if height > len(amplitude):
            return
        thin, shift = stride // arcs.stride, arcs.height // arcs.stride
        arcs = Arcs(
            (arcs.rise[:-shift] + arcs.rise[shift:])[::thin],
            (arcs.information[:-shift] + arcs.information[shift:])[::thin],
            height,
            stride,
        )


def local_noise(values: Map, usable: NDArray[np.bool_], tile: tuple[int, int]) -> Map:
    """Return the local standard deviation of `values`, which may hold peaks: same shape.

    A low quantile of |values| in tiles of (rows, columns), interpolated between tile centres; where
    so few counts fell that it is zero, the root mean square.
    """
    rows, columns = (-(-n // t) for n, t in zip(values.shape, tile, strict=True))
    padded = np.full((rows * tile[0], columns * tile[1]), np.inf, np.float32)
    padded[: values.shape[0], : values.shape[1]] = np.where(usable, np.abs(values), np.inf)
    tiles = padded.reshape(rows, tile[0], columns, tile[1]).swapaxes(1, 2)
    tiles = np.sort(tiles.reshape(rows, columns, -1), axis=-1)
    count = np.isfinite(tiles).sum(axis=-1)
    rank = (_QUANTILE * np.maximum(count - 1, 0)).astype(np.intp)
    noise = np.take_along_axis(tiles, rank[..., None], axis=-1)[..., 0] / _QUANTILE_OF_NORMAL
    empty = noise == 0
    squares = np.where(np.isfinite(tiles[empty]), tiles[empty], 0) ** 2
    noise[empty] = np.sqrt(squares.sum(axis=-1) / np.maximum(count[empty], 1))
    known = (count >= min(tile[0] * tile[1], 16) // 2) & (noise > 0)
    typical = np.median(noise[known]) if known.any() else np.float32(np.inf)
    noise = np.where(known, noise, typical).astype(np.float32)
    full = cv2.resize(noise, (columns * tile[1], rows * tile[0]), interpolation=cv2.INTER_LINEAR)
    return full[: values.shape[0], : values.shape[1]]

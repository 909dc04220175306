"""The input of the light network: image, validity, image over its surroundings."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.detector.networks.light_architecture import CHANNELS

__all__ = ["COARSER", "FARTHEST", "SURROUNDINGS", "NetworkInput", "network_input"]

Image = NDArray[np.float32]

COARSER = 4
SURROUNDINGS = (17, 9)  # (|q|, phi) in coarse pixels
FARTHEST = np.float32(4)
_ROWS_AT_ONCE = 32  # so that they stay in the cache


class NetworkInput:
    """Computes the input for images of one shape, and reuses its work arrays.

    Image, validity, and the image over its local mean and scatter; scaled to about unit variance,
    so that "no data", which is 0 everywhere, differs from "dark". Not for several threads at once.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._planes = np.empty((5, *shape), np.float32)
        self._input = np.empty((*shape, CHANNELS), np.float32)
        coarse = [-(-n // COARSER) for n in shape]
        self._coarse = (coarse[1], coarse[0])

    def __call__(self, image: Image) -> Image:
        """Turn a prepared (n_phi, n_q) image, NaN = no data, into (n_phi, n_q, 3) input.

        What is returned is valid until the next call.
        """
        filled, valid, square, mean, over = self._planes
        for part in self._parts():
            known = np.isfinite(image[part])
            np.copyto(valid[part], known)
            filled[part] = 0
            np.copyto(filled[part], image[part], where=known)
            np.multiply(filled[part], filled[part], out=square[part])
        self._surroundings(filled, valid, square)
        for part in self._parts():
            z = np.subtract(filled[part], mean[part], out=mean[part])
            z *= over[part]
            z *= valid[part]
            np.clip(z, -FARTHEST, FARTHEST, out=z)
            z *= np.float32(0.5)
            centred = np.subtract(filled[part], np.float32(0.5), out=square[part])
            centred *= np.float32(3)
            centred *= valid[part]
            cv2.merge([centred, valid[part], z], self._input[part])
        return self._input

    def _parts(self) -> Iterator[slice]:
        for start in range(0, self.shape[0], _ROWS_AT_ONCE):
            yield slice(start, min(start + _ROWS_AT_ONCE, self.shape[0]))

    def _surroundings(self, image: Image, valid: Image, square: Image) -> None:
        """Fill in the mean and 1 / scatter of the valid pixels around each pixel.

        They are taken on a fourth of the rows and columns and interpolated.
        """
        share, mean, power = (
            cv2.boxFilter(
                cv2.resize(plane, self._coarse, interpolation=cv2.INTER_AREA),
                -1,
                SURROUNDINGS,
                borderType=cv2.BORDER_REFLECT,
            )
            for plane in (valid, image, square)
        )
        share = np.maximum(share, np.float32(1e-3))
        mean = mean / share
        scatter = np.sqrt(np.maximum(power / share - mean * mean, np.float32(1e-6)))
        size = (self.shape[1], self.shape[0])
        cv2.resize(mean, size, dst=self._planes[3])
        cv2.resize(np.asarray(1 / scatter), size, dst=self._planes[4])


def network_input(images: Image) -> Image:
    """Turn prepared (n, n_phi, n_q) images into (n, n_phi, n_q, 3) input."""
    make = NetworkInput((images.shape[1], images.shape[2]))
    stacked = np.empty((*images.shape, CHANNELS), np.float32)
    for image, channels in zip(images, stacked, strict=True):
        channels[...] = make(image)
    return stacked

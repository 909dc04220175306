"""What the light network sees of an image: image, validity, image over its surroundings."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.detector.networks.light_architecture import CHANNELS

__all__ = ["network_input"]

Image = NDArray[np.float32]

_COARSER = 4
_SURROUNDINGS = (17, 9)  # (|q|, phi) in coarse pixels
_FARTHEST = 4.0


def network_input(images: Image) -> Image:
    """Turn prepared (n, n_phi, n_q) images, NaN = no data, into (n, n_phi, n_q, 3) input.

    Image, validity, and the image over its local mean and scatter; scaled to about unit variance,
    so that "no data", which is 0 everywhere, differs from "dark".
    """
    stacked = np.empty((*images.shape, CHANNELS), np.float32)
    for image, channels in zip(images, stacked, strict=True):
        valid = np.isfinite(image)
        filled = np.where(valid, image, np.float32(0))
        validity = valid.astype(np.float32)
        centred = filled - np.float32(0.5)
        centred *= np.float32(3)
        centred *= validity
        cv2.merge([centred, validity, _over_surroundings(filled, validity)], channels)
    return stacked


def _over_surroundings(image: Image, valid: Image) -> Any:
    """Return (image - mean) / scatter of the valid pixels around, clipped, 0 where no data.

    Mean and scatter are taken on a fourth of the rows and columns and interpolated.
    """
    rows, columns = image.shape
    coarse = (-(-columns // _COARSER), -(-rows // _COARSER))
    share, mean, square = (
        cv2.boxFilter(
            cv2.resize(part, coarse, interpolation=cv2.INTER_AREA),
            -1,
            _SURROUNDINGS,
            borderType=cv2.BORDER_REFLECT,
        )
        for part in (valid, image, image * image)
    )
    share = np.maximum(share, np.float32(1e-3))
    mean = mean / share
    scatter = np.sqrt(np.maximum(square / share - mean * mean, np.float32(1e-6)))
    mean, over = (cv2.resize(part, (columns, rows)) for part in (mean, 1 / scatter))
    z = np.subtract(image, mean, out=mean)
    z *= over
    z *= valid
    np.clip(z, -_FARTHEST, _FARTHEST, out=z)
    z *= np.float32(0.5)
    return z

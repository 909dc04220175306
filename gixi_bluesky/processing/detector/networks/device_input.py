"""Contrast and input of the light network in torch, on the device that it runs on."""

from __future__ import annotations

from functools import lru_cache
from math import floor

import cv2
import numpy as np
import torch
from torch import Tensor

from gixi_bluesky.processing.detector.contrast import GREY_LEVELS, NO_DATA, grey_table, ranks
from gixi_bluesky.processing.detector.networks.light_input import COARSER, FARTHEST, SURROUNDINGS
from gixi_bluesky.processing.settings import ContrastSettings

__all__ = ["device_contrast", "device_input"]


def device_contrast(image: Tensor, settings: ContrastSettings) -> Tensor:
    """Return a (rows, columns) image as `Contrast` does for one tile: 0…1, NaN = no data.

    The curve of the histogram is computed on the CPU, by the same code.
    """
    known = torch.isfinite(image)
    n = known.sum()
    low, high = _limits(image, known, n, settings.percentiles)
    strength = settings.log_strength
    scaled = ((image - low) / (high - low)).clamp_(0, 1) * strength + 1
    scaled = scaled.log_() / float(np.log(np.float32(strength) + np.float32(1))) * GREY_LEVELS
    levels = torch.where(known, scaled.nan_to_num_(), NO_DATA).long()
    ones = torch.ones((), dtype=torch.int64, device=image.device).expand(levels.numel())
    counts = torch.zeros(NO_DATA + 1, dtype=torch.int64, device=image.device)
    counts.scatter_add_(0, levels.flatten(), ones)
    # One array, so that the device is waited for once.
    numbers = torch.cat([counts.double(), torch.stack([low, high]).double()]).cpu().numpy()
    if not numbers[-1] > numbers[-2]:
        return torch.where(known, 0.0, torch.nan)
    used = numbers[:NO_DATA].astype(np.int64)
    table = grey_table(used, int(used.sum()), settings.clip_limit)
    return torch.from_numpy(table).to(image.device)[levels]


def _limits(
    image: Tensor, known: Tensor, n: Tensor, percentiles: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Return the percentiles of the `n` known values as the ranks next to them, on the device."""
    size = image.numel()
    most = [floor(share / 100 * (size - 1)) + 2 for share in (percentiles[0], 100 - percentiles[1])]
    ends = [
        torch.where(known, sign * image, torch.inf).flatten().topk(min(k, size), largest=False)
        for sign, k in zip((1, -1), most, strict=True)
    ]
    below, above = ranks(int(n), percentiles)
    return ends[0].values[max(below, 0)], -ends[1].values[max(above, 0)]


def device_input(images: Tensor) -> Tensor:
    """Turn prepared (n, n_phi, n_q) images into (n, 3, n_phi, n_q) input, as `NetworkInput` does.

    What OpenCV does to the surroundings is linear along rows and along columns, so it is a product
    with matrices that OpenCV makes.
    """
    valid = torch.isfinite(images).float()
    filled = images.nan_to_num(0.0)
    rows, columns = (
        _operators(n, kernel, images.device)
        for n, kernel in zip(images.shape[1:], SURROUNDINGS[::-1], strict=True)
    )
    planes = torch.stack([valid, filled, filled * filled], 1)
    share, mean, power = (rows[0] @ planes @ columns[0].T).unbind(1)
    share = share.clamp_(min=1e-3)
    mean = mean / share
    over = (power / share - mean * mean).clamp_(min=1e-6).rsqrt_()
    mean, over = (rows[1] @ torch.stack([mean, over], 1) @ columns[1].T).unbind(1)
    z = ((filled - mean) * over * valid).clamp_(-float(FARTHEST), float(FARTHEST)) * 0.5
    channels = torch.stack([(filled - 0.5) * 3 * valid, valid, z], 1)
    return channels.contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=8)
def _operators(n: int, kernel: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return what averages the surroundings along an axis of `n`, and what interpolates them."""
    coarse = -(-n // COARSER)
    smaller = cv2.resize(np.eye(n, dtype=np.float32), (n, coarse), interpolation=cv2.INTER_AREA)
    averaged = cv2.boxFilter(smaller, -1, (1, kernel), borderType=cv2.BORDER_REFLECT)
    larger = cv2.resize(np.eye(coarse, dtype=np.float32), (coarse, n))
    return tuple(torch.from_numpy(one).to(device) for one in (averaged, larger))  # type: ignore[return-value] # two

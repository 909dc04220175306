"""Second stage: pool the features under each proposal and judge it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from gixi_bluesky.processing.detector.networks.backbone import Architecture

__all__ = ["BoxHead", "roi_align"]


class BoxHead(nn.Module):
    """Two hidden layers, then one logit and four deltas per proposal."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        rows, columns = architecture.roi
        self.fc6 = nn.Linear(architecture.pyramid * rows * columns, architecture.hidden)
        self.fc7 = nn.Linear(architecture.hidden, architecture.hidden)
        self.cls_score = nn.Linear(architecture.hidden, 1)
        self.bbox_pred = nn.Linear(architecture.hidden, 4)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(m, c, rows, columns) → logits (m,), deltas (m, 4)."""
        x = F.leaky_relu(self.fc6(pooled.flatten(1)))
        x = F.leaky_relu(self.fc7(x))
        return self.cls_score(x)[:, 0], self.bbox_pred(x)


def roi_align(features: Tensor, boxes: Tensor, bins: tuple[int, int]) -> Tensor:
    """Average bilinear samples in the bins of each box (He 2017): (m, c, rows, columns).

    features: (c, rows, columns); boxes: (m, 4) [q0, phi0, q1, phi1] in cells of `features`
    Follows torchvision's `roi_align(aligned=False, sampling_ratio=-1)`. Sampling is separable, so
    each box is two small matrix products over the cells it covers.
    """
    down = _sampling_matrix(boxes[:, 1], boxes[:, 3], bins[0], features.shape[1])
    across = _sampling_matrix(boxes[:, 0], boxes[:, 2], bins[1], features.shape[2])
    rows, columns = _spans(down), _spans(across)
    cells = features.permute(1, 2, 0).contiguous()
    pooled = features.new_empty((len(boxes), *bins, len(features)))
    for i, ((top, bottom), (left, right)) in enumerate(zip(rows, columns, strict=True)):
        patch = cells[top:bottom, left:right]
        rowwise = down[i, :, top:bottom] @ patch.reshape(bottom - top, -1)
        torch.matmul(
            across[i, :, left:right], rowwise.view(bins[0], right - left, -1), out=pooled[i]
        )
    return pooled.permute(0, 3, 1, 2)


def _sampling_matrix(start: Tensor, end: Tensor, bins: int, cells: int) -> Tensor:
    """Return how much each cell counts in each bin of each box along one axis: (m, bins, cells)."""
    size = (end - start).clamp(min=1) / bins
    samples = size.ceil()
    most = int(samples.max()) if len(samples) else 1
    index = torch.arange(most, device=start.device)
    within = (index + 0.5) / samples[:, None]  # (m, most), in bins
    bin_index = torch.arange(bins, device=start.device)
    position = start[:, None, None] + (bin_index[:, None] + within[:, None]) * size[:, None, None]
    counted = (index < samples[:, None])[:, None] & (position >= -1) & (position <= cells)
    share = counted / samples[:, None, None]
    position = position.clamp(0, cells - 1)
    before = position.floor()
    after_share = position - before
    matrix = start.new_zeros((len(start), bins, cells))
    matrix.scatter_add_(2, before.long(), share * (1 - after_share))
    matrix.scatter_add_(2, (before.long() + 1).clamp(max=cells - 1), share * after_share)
    return matrix


def _spans(matrix: Tensor) -> list[tuple[int, int]]:
    """Return the first and the last but one cell that count for each box."""
    used = (matrix != 0).any(dim=1)
    first = used.int().argmax(dim=1)
    last = used.shape[1] - used.flip(1).int().argmax(dim=1)
    return list(zip(first.tolist(), last.tolist(), strict=True))

"""Ways to multiply a frame with the footprint's matrix: SciPy and OpenCV, and those torch has.

One frame of the simulated beamline, one thread, the ways in turns; the largest difference from
the product of the CPU chain stands beside each.

    python benchmarks/footprint_products.py [--repeats 20] [--device cpu]
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from gixi_bluesky.bench import DETECTOR, beamline
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.remap.footprint import Footprint
from gixi_bluesky.processing.remap.remapper import Remapper

Product = Callable[[], Tensor]


def torch_products(
    footprint: Footprint, frame: NDArray[np.float32], device: str
) -> dict[str, Product]:
    """Return the ways by name; each yields the sums (cells,) on the device."""
    matrix = sparse.hstack([footprint.pixels, footprint.blocks]).tocsr()
    columns, bounds, weights = (
        torch.from_numpy(array).to(device)
        for array in (matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32), matrix.data)
    )
    cells = torch.repeat_interleave(torch.arange(len(bounds) - 1, device=device), bounds.diff())
    csr = torch.sparse_csr_tensor(bounds, columns, weights, matrix.shape)
    image = torch.from_numpy(frame).to(device)
    even = image[footprint.whole_blocks]
    blocks = F.avg_pool2d(even[None, None], 2).flatten()
    source = torch.cat([image.flatten(), blocks])
    zeros = torch.zeros(len(bounds) - 1, device=device)
    return {
        "CSR product": lambda: csr @ source,
        "embedding bag": lambda: F.embedding_bag(
            columns,
            source[:, None],
            bounds,
            mode="sum",
            per_sample_weights=weights,
            include_last_offset=True,
        )[:, 0],
        "gather, segment_reduce": lambda: torch.segment_reduce(
            source[columns] * weights, "sum", offsets=bounds.long()
        ),
        "gather, index_add": lambda: zeros.index_add(0, cells, source[columns] * weights),
    }


def milliseconds(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median time of each way, run in turns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):  # the first one warms up
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                taken[name].append(1e3 * (time.perf_counter() - began))
    return {name: float(np.median(times)) for name, times in taken.items()}


def main() -> None:
    """Print the time of each way and its largest difference from that of the CPU chain."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = beamline()
    geometry = Geometry.from_settings(config.geometry, DETECTOR)
    footprint = Remapper(geometry, config.grid, config.corrections, DETECTOR).polar_mean.footprint
    frame = np.random.default_rng(0).poisson(5, footprint.shape).astype(np.float32)
    ways = torch_products(footprint, frame, options.device)
    expected = footprint.means(frame)
    times = milliseconds(
        {"SciPy and OpenCV": lambda: footprint.means(frame)} | ways, options.repeats
    )
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, load {load:.1f}, {footprint.pixels.nnz} weights of pixels")
    for name, taken in times.items():
        off = 0.0 if name not in ways else np.nanmax(np.abs(ways[name]().cpu().numpy() - expected))
        print(f"{name:24s} {taken:7.2f} ms, off by at most {off:.1e}")


if __name__ == "__main__":
    main()

"""The overhead of the callback for a scan and a frame, without the analysis itself.

Run from the repository root: python benchmarks/callback_overhead.py
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fakes import FAKE, Stores, fake_config
from raw_runs import hdf5_run, inline_run

from gixi_bluesky.callbacks import Analysis

SHAPE, FRAMES = (2048, 2048), 30


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    frames = np.random.default_rng(0).poisson(5, (FRAMES, *SHAPE)).astype("<u4")
    runs = {
        "images inside events": inline_run(frames),
        "images in HDF5 files": hdf5_run(folder / "raw.h5", frames),
    }
    with Analysis(fake_config(folder), store=Stores(), factory=FAKE) as analysis:
        for name, documents in runs.items():
            longest, began = 0.0, time.perf_counter()
            for document in documents:
                called = time.perf_counter()
                analysis(*document)
                longest = max(longest, time.perf_counter() - called)
                time.sleep(0.001)
            analysis.drain(120)
            rate = FRAMES / (time.perf_counter() - began)
            print(f"{name}: {rate:.1f} frames/s, longest call {1e6 * longest:.0f} us")


if __name__ == "__main__":
    main()

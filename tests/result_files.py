"""Result files that hold no run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from fake_pipeline import FakePipeline
from fakes import fake_config

from gixi_bluesky.tiled_adapters.files.result_writer import write_result_file


def single_file(folder: Path, frames: int = 2) -> Path:
    """Write `film.h5` as `process --out` does: frame k is full of 100 (k + 1), a peak in each."""
    pipeline = FakePipeline(fake_config(folder))
    results = [replace(pipeline(np.full((4, 4), 100.0 * (k + 1))), index=k) for k in range(frames)]
    folder.mkdir(exist_ok=True)
    return write_result_file(folder / "film.h5", results, {"version": "1", "config": {"a": 1}})

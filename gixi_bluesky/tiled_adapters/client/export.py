"""A derived run as files to take home: one CSV a table, cuts, or one whole NeXus file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gixi_bluesky.processing.cuts.text_files import write_cut
from gixi_bluesky.processing.geometry.grids import PolarGrid
from gixi_bluesky.processing.types import Cut
from gixi_bluesky.tiled_adapters.client.cut_series import CutSeries
from gixi_bluesky.tiled_adapters.client.readable_runs import ReadableRun
from gixi_bluesky.tiled_adapters.files.array_groups import create_array, write_rows
from gixi_bluesky.tiled_adapters.files.nexus import complete_entry, create_entry, write_table
from gixi_bluesky.tiled_adapters.files.polar_images import create_images, write_image
from gixi_bluesky.tiled_adapters.files.whole_file import whole_file

__all__ = ["write_csv", "write_cuts", "write_nexus"]

_ROWS_AT_ONCE = 16


def write_csv(run: ReadableRun, folder: Path) -> list[Path]:
    """Write each table as `<uid>_<table>.csv` and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for table in run.tables:
        path = folder / f"{run.start['uid']}_{table.name}.csv"
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            run.table(table.name).to_csv(part, index=False)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        paths.append(path)
    return paths


def write_cuts(run: ReadableRun, folder: Path) -> list[Path]:
    """Write each cut of each frame as `<uid>_<cut>/frame_<number>.xy` and return the paths.

    The files have three columns, axis, intensity and sigma, as `gixi-bluesky cut` writes them;
    frames without data are left out.
    """
    uid = run.start["uid"]
    paths = []
    for name in run.cuts:
        series = run.cut(name)
        target = folder / f"{uid}_{name}"
        target.mkdir(parents=True, exist_ok=True)
        for row, frame in enumerate(series.frames):
            if np.isfinite(series.intensity[row]).any():
                path = target / f"frame_{frame:06d}.xy"
                notes = {"run": uid, "cut": name, "frame": int(frame)}
                paths.append(write_cut(path, _cut(series, row), notes))
    return paths


def write_nexus(run: ReadableRun, path: Path) -> Path:
    """Write the whole run into one NeXus file, which appears only when it is complete.

    Raises StoreError when the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        _write(run, file)
    return path


def _write(run: ReadableRun, file: h5py.File) -> None:
    gixi: Mapping[str, Any] = run.start["gixi"]
    n_phi, n_q = gixi["grid"]["shape"]
    grid = PolarGrid(gixi["grid"]["q_max_inv_angstrom"], (n_phi, n_q))
    entry = create_entry(file, run.start, grid.q, grid.phi, run.stop)
    images = create_images(file, grid.shape, run.n_images or None)
    for row in range(run.n_images):
        write_image(images, row, run.image(row))
    step = max(gixi.get("image_step", 1), 1)
    file["/entry/polar/frame"][:] = np.arange(run.n_images) * step
    for stored in run.arrays:
        array = stored.array
        create_array(file, array, stored.rows)
        for begin in range(0, stored.rows, _ROWS_AT_ONCE):
            end = min(begin + _ROWS_AT_ONCE, stored.rows)
            values = run.rows(array, begin, end)
            write_rows(file, array, dict(zip(range(begin, end), values, strict=True)))
    for table in run.tables:
        rows = run.table(table.name)
        write_table(entry, table, {str(name): rows[name] for name in rows})
    complete_entry(entry, run.start)


def _cut(series: CutSeries, row: int) -> Cut:
    unknown = np.full(len(series.axis), np.nan)
    return Cut(
        series.name,
        series.along,
        series.unit,
        series.axis,
        series.intensity[row].astype(np.float64),
        series.error[row].astype(np.float64),
        np.zeros(len(series.axis), np.int64),
        unknown,
    )

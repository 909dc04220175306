"""Probabilities and cells of phases in Poisson copies of one frame.

    python benchmarks/poisson_copies.py --config config.yaml FRAME --present MAPbBr3 [--copies 200]
        [--bin 2] [--cif FOLDER] [--known-cell MAPbBr3=5.93]

Each copy counts anew what the frame, binned, counted: its mean is the frame and its noise that of
a second exposure. The configuration is that of the whole detector; with an explicit geometry pixel
size and beam centre follow the binning. Prints quantiles of the probability and the cell of each
phase that is there, and the surest of the others. The exit status is 1 if a phase that is there
falls below 0.99, if another one exceeds 0.3, or if a known cell is missed by 0.3 %.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gixi_bluesky.cli.images import first_image
from gixi_bluesky.config import Config, load_config
from gixi_bluesky.processing.pipeline import Pipeline

SURE, DOUBTFUL, CELL = 0.99, 0.3, 0.003


def main() -> None:
    options = parsed()
    config = load_config(options.config)
    if options.cif:
        config = changed(config, "matching", cif=(*config.matching.cif, *options.cif))
    if options.weights:
        config = changed(config, "detector", weights=options.weights)
    label, frame = first_image(config, options.frame)
    mean = binned(frame, options.bin)
    pipeline = Pipeline(in_binned_pixels(config, options.bin))
    rng = np.random.default_rng(options.seed)
    tables = []
    for number in range(options.copies):
        tables.append(pipeline(rng.poisson(mean).astype(np.float32)).matches)
        if sys.stderr.isatty():
            print(f"\r{number + 1}/{options.copies}", end="", file=sys.stderr)
    print(
        f"{label}, {options.bin} x {options.bin} binned, {options.copies} copies, "
        f"{len(pipeline.structures)} candidates, detector {config.detector.weights}"
    )
    failed = [phase for phase in options.present if not shown(phase, tables, options.known_cell)]
    failed += others(set(options.present), tables)
    sys.exit(1 if failed else 0)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frame")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--present", nargs="+", default=[], help="phases that are there")
    parser.add_argument("--known-cell", type=known, nargs="*", default=[], metavar="PHASE=A")
    parser.add_argument("--cif", type=Path, nargs="*", default=[], help="further candidates")
    parser.add_argument("--weights", help="detector, instead of the configuration's")
    parser.add_argument("--copies", type=int, default=200)
    parser.add_argument("--bin", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.known_cell = dict(options.known_cell)
    return options


def known(text: str) -> tuple[str, float]:
    phase, _, length = text.rpartition("=")
    return phase, float(length)


def changed(config: Config, section: str, **values: Any) -> Config:
    part = getattr(config, section).model_copy(update=values)
    return config.model_copy(update={section: part})


def binned(frame: NDArray[Any], factor: int) -> NDArray[np.float64]:
    """Return sums of factor x factor pixels, without an incomplete last row or column."""
    rows, columns = (size // factor for size in frame.shape)
    whole = np.maximum(frame[: rows * factor, : columns * factor], 0).astype(np.float64)
    return whole.reshape(rows, factor, columns, factor).sum(axis=(1, 3))


def in_binned_pixels(config: Config, factor: int) -> Config:
    """Return the configuration for binned frames; calibration files know the whole detector."""
    pixel, centre = config.geometry.pixel_size_mm, config.geometry.beam_center_px
    if factor == 1 or pixel is None or centre is None:
        return config
    return changed(
        config,
        "geometry",
        pixel_size_mm=tuple(factor * size for size in pixel),
        beam_center_px=tuple((place + 0.5) / factor - 0.5 for place in centre),
    )


def shown(phase: str, tables: list[pd.DataFrame], known_cells: dict[str, float]) -> bool:
    """Print how one phase fares; return whether it is sure, and its cell right, in each copy."""
    rows = pd.concat([table[table.phase == phase] for table in tables])
    probability = rows.probability.tolist() + [0.0] * (len(tables) - len(rows))
    least, low, median = np.quantile(probability, [0, 0.05, 0.5])
    print(f"{phase}: probability {least:.4f} at least, {low:.4f} (5 %), {median:.4f} (median)")
    if rows.empty:
        return False
    cell = rows.cell_a.to_numpy(np.float64)
    print(f"{phase}: a {cell.min():.4f} to {cell.max():.4f}, standard deviation {cell.std():.5f}")
    off = abs(cell / known_cells.get(phase, float(np.median(cell))) - 1).max()
    return bool(least > SURE and off < CELL)


def others(present: set[str], tables: list[pd.DataFrame]) -> list[str]:
    """Print the surest phases that are not there; return those above DOUBTFUL."""
    absent = [table[~table.phase.isin(present)] for table in tables]
    top = [0.0 if table.empty else table.probability.max() for table in absent]
    quantiles = ", ".join(f"{q:.4f}" for q in np.quantile(top, [0.5, 0.95, 1]))
    print(f"surest of the others in a copy: median, 95 %, highest = {quantiles}")
    by_phase = pd.concat(absent).groupby("phase").probability
    highest = by_phase.max().sort_values(ascending=False)
    many = by_phase.agg(lambda values: (values > DOUBTFUL).sum())
    for phase, value in highest.head(5).items():
        print(f"    {phase}: at most {value:.4f}, above {DOUBTFUL} in {many[phase]:.0f} copies")
    return [str(phase) for phase in highest[highest > DOUBTFUL].index]


if __name__ == "__main__":
    main()

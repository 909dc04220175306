"""Times of new maps, of a frame with existing maps, and of dark and flat corrections.

    python benchmarks/map_rebuild.py

A frame of 2048 x 2048 pixels is remapped to 512 x 1024 cells, the incidence angle changed in turn.
The ratio to what a rebuild must do at least, to see in which cell each pixel lies, means more than
seconds on a machine that others use too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gixi_bluesky.config import parse_config
from gixi_bluesky.log import configure_logging
from gixi_bluesky.processing import Pipeline
from gixi_bluesky.processing.geometry.grids import PolarGrid
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.remap.cells import cells_of_pixels
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import (
    CorrectionSettings,
    GeometrySettings,
    GridSettings,
)

SHAPE = (2048, 2048)
GEOMETRY = {
    "wavelength_angstrom": 0.6888,
    "distance_mm": 809.0,
    "pixel_size_mm": [0.2, 0.2],
    "beam_center_px": [222.0, 545.0],
    "incidence_angle_deg": {"from": "th"},
}


def pipeline(folder: Path, **corrections: object) -> Pipeline:
    tree = {
        "geometry": GEOMETRY,
        "detector": {"weights": "classical"},
        "corrections": corrections,
    }
    return Pipeline(parse_config(tree, folder=folder))


def report(name: str, pipeline: Pipeline, frame: np.ndarray) -> None:
    for angle in (0.5, 0.6):
        began = time.perf_counter()
        pipeline(frame, incidence_angle_deg=angle)
        print(f"{name}: first frame at {angle} deg {time.perf_counter() - began:.2f} s")
    cached = [
        pipeline(frame, incidence_angle_deg=angle).seconds["remap"]
        for angle in (0.5, 0.6, 0.5 + 1e-6, 0.6 - 1e-6) * 3
    ]
    print(
        f"{name}: remap with maps that are there {1e3 * float(np.median(cached)):.0f} ms; "
        f"maps built {pipeline.maps_built} times for 14 frames"
    )


def report_parts() -> None:
    """Print CPU times, the least of a few, and their ratio."""
    geometry = Geometry.from_settings(
        GeometrySettings.model_validate(GEOMETRY | {"incidence_angle_deg": 0.5})
    )

    def least(part: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            began = time.process_time()
            part()
            times.append(time.process_time() - began)
        return min(times)

    for space in ("polar", "cartesian"):
        grid = GridSettings(space=space)
        whole = least(lambda grid=grid: Remapper(geometry, grid, CorrectionSettings(), SHAPE))
        cells = PolarGrid(grid.q_max_inv_angstrom, grid.shape)
        needed = least(lambda cells=cells: cells_of_pixels(geometry, cells, SHAPE, 0.0))
        print(
            f"{space}: maps {1e3 * whole:.0f} ms of CPU time, {whole / needed:.1f} times the "
            f"{1e3 * needed:.0f} ms for the cell of each pixel"
        )


def main() -> None:
    configure_logging("WARNING")
    report_parts()
    frame = np.random.default_rng(0).poisson(50, SHAPE).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "dark.npy", np.zeros(SHAPE, np.float32))
        np.save(folder / "flat.npy", np.ones(SHAPE, np.float32))
        report("plain", pipeline(folder), frame)
        report("dark and flat", pipeline(folder, dark="dark.npy", flat="flat.npy"), frame)


if __name__ == "__main__":
    main()

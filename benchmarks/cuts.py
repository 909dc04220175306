"""Time of five cuts of one 4-megapixel frame, side by side with pyFAI's CSR engine, one thread.

The maps of both are built before. pyFAI averages the same ranges into as many bins, without pixel
splitting. The times are those of the CPU, the best of each turn, and the median over the turns.

    python benchmarks/cuts.py
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from pyFAI.detectors import Detector
from pyFAI.integrator.fiber import FiberIntegrator

from gixi_bluesky.processing.cuts.maps import CutMaps
from gixi_bluesky.processing.cuts.settings import CutSettings
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.pixels.noise import Noise
from gixi_bluesky.processing.settings import CorrectionSettings, GeometrySettings, GridSettings

SHAPE = (2048, 2048)
GEOMETRY = {
    "wavelength_angstrom": 0.6888,
    "distance_mm": 400.0,
    "pixel_size_mm": [0.15, 0.15],
    "beam_center_px": [100.0, 1024.0],
    "incidence_angle_deg": 0.3,
}
# Of ours, and of pyFAI: the range across, the range along, units, bins. chigi is 90 deg - phi.
CUTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sector": (
        {"along": "q", "phi": (10, 80), "q": (0.2, 3.0), "bins": 1000},
        {"ip": ("qtot_A^-1", (0.2, 3.0)), "oop": ("chigi_deg", (10, 80)), "along": "ip"},
    ),
    "narrow": (
        {"along": "q", "phi": (70, 88), "q": (0.2, 3.0), "bins": 1000},
        {"ip": ("qtot_A^-1", (0.2, 3.0)), "oop": ("chigi_deg", (2, 20)), "along": "ip"},
    ),
    "ring": (
        {"along": "phi", "q": (1.0, 1.1), "phi": (5, 85), "bins": 180},
        {"ip": ("qtot_A^-1", (1.0, 1.1)), "oop": ("chigi_deg", (5, 85)), "along": "oop"},
    ),
    "rod": (
        {"along": "q_z", "q_xy": (1.0, 1.08), "q_z": (0.1, 2.5), "bins": 500},
        {"ip": ("qip_A^-1", (1.0, 1.08)), "oop": ("qoop_A^-1", (0.1, 2.5)), "along": "oop"},
    ),
    "inplane": (
        {"along": "q_xy", "q_z": (0.05, 0.15), "q_xy": (0.1, 2.5), "bins": 500},
        {"ip": ("qip_A^-1", (0.1, 2.5)), "oop": ("qoop_A^-1", (0.05, 0.15)), "along": "ip"},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--calls", type=int, default=5, help="of a turn; the best one counts")
    options = parser.parse_args()
    frame = np.random.default_rng(0).poisson(40.0, SHAPE).astype(np.int32)
    geometry = Geometry.from_settings(GeometrySettings.model_validate(GEOMETRY), SHAPE)
    ways = {"gixi_bluesky": ours(geometry, frame), "pyFAI": theirs(geometry, frame)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.turns):
        for name, way in ways.items():
            times[name].append(min(cpu_ms(way) for _ in range(options.calls)))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{platform.machine()}, one thread, {len(CUTS)} cuts of {SHAPE[0]} x {SHAPE[1]} pixels")
    for name, value in medians.items():
        spread = f"{min(times[name]):.2f} to {max(times[name]):.2f}"
        print(f"{name:14s} {value:8.2f} ms of CPU a frame ({spread})")
    print(f"ratio {medians['pyFAI'] / medians['gixi_bluesky']:.1f}")


def ours(geometry: Geometry, frame: np.ndarray) -> Callable[[], object]:
    cuts = {name: CutSettings(**settings) for name, (settings, _) in CUTS.items()}
    grid = GridSettings(q_max_inv_angstrom=3.0, side="right")
    maps = CutMaps(cuts, geometry, grid, CorrectionSettings(), np.ones(SHAPE, bool))
    maps(frame, Noise(1.0, 0.0))
    return lambda: maps(frame, Noise(1.0, 0.0))


def theirs(geometry: Geometry, frame: np.ndarray) -> Callable[[], object]:
    pixel1, pixel2 = geometry.pixel_size_m
    integrator = FiberIntegrator(
        geometry.distance_m,
        *geometry.poni_m,
        *geometry.rotations_rad,
        detector=Detector(pixel1, pixel2, max_shape=SHAPE),
        wavelength=geometry.wavelength_angstrom * 1e-10,
    )
    # An integrator keeps one engine for each method, so that each cut has one of its own.
    engines = {name: integrator.__deepcopy__() for name in CUTS}

    counts = frame.astype(np.float64)

    def all_cuts() -> None:
        for name, (settings, reference) in CUTS.items():
            along_in_plane = reference["along"] == "ip"
            engines[name].integrate_fiber(
                counts,
                npt_ip=settings["bins"] if along_in_plane else 100,
                npt_oop=100 if along_in_plane else settings["bins"],
                unit_ip=reference["ip"][0],
                ip_range=reference["ip"][1],
                unit_oop=reference["oop"][0],
                oop_range=reference["oop"][1],
                vertical_integration=not along_in_plane,
                sample_orientation=1,
                method=("no", "csr", "cython"),
                polarization_factor=0.98,
                correctSolidAngle=True,
            )

    all_cuts()
    return all_cuts


def cpu_ms(way: Callable[[], object]) -> float:
    began = time.process_time()
    way()
    return 1e3 * (time.process_time() - began)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()

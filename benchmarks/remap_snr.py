"""Signal-to-noise ratio, width and time of the remap beside the published bilinear one.

Rings on a flat background with Poisson counts, seen by the MAPbBr3 set-up of P08. A segment is
10 phi x 7 q cells; its signal is the sum over it minus the background from the cells beside it.
Both methods see the same frames, right of the beam only, one thread, timed in turns.

    python benchmarks/remap_snr.py [--realisations 16] [--repeats 40]
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.geometry.grids import PolarGrid
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings, GeometrySettings, GridSettings

SHAPE = (2048, 2048)
GEOMETRY = GeometrySettings(
    wavelength_angstrom=0.6888,
    distance_mm=809.0,
    pixel_size_mm=(0.2, 0.2),
    beam_center_px=(222.0, 545.0),
    incidence_angle_deg=0.5,
)
RINGS = {1.06: 60.0, 1.5: 20.0, 1.834: 8.0, 2.118: 40.0, 2.368: 50.0, 2.996: 30.0, 3.177: 25.0}
SIGMA = 0.006
BACKGROUND = 20.0
Q_MAX = 3.818
SEGMENT = (10, 7)

Remap = Callable[[NDArray[np.generic]], NDArray[np.float32]]


def published(geometry: Geometry) -> Remap:
    """Return the published way: flip, convert, bilinear at the cell's centre."""
    grid = PolarGrid(Q_MAX, (512, 1024), "right")
    rows, columns = geometry.pixel_at(*grid.centers()[0])
    rows, columns = (np.nan_to_num(a, nan=-10).astype(np.float32) for a in (rows, columns))

    def remap(frame: NDArray[np.generic]) -> NDArray[np.float32]:
        turned = np.flip(frame, 0).astype(np.float32)
        return cv2.remap(turned, columns, rows, cv2.INTER_LINEAR)

    return remap


def ours(geometry: Geometry, side: str) -> Remap:
    """Return this package's remap, from the frame as read, variance and counts included."""
    remapper = Remapper(
        geometry,
        GridSettings(q_max_inv_angstrom=Q_MAX, side=side),
        CorrectionSettings(solid_angle=False, polarization=None),
        SHAPE,
    )
    return lambda frame: remapper(np.flip(frame, 0)).intensity


def expected_counts(geometry: Geometry) -> NDArray[np.float64]:
    """Return the mean frame as read (flipped), rings on a flat background."""
    q = np.hypot(*geometry.q_at(*np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)))
    mean = np.full(SHAPE, BACKGROUND)
    for center, height in RINGS.items():
        mean += height * np.exp(-0.5 * ((q - center) / SIGMA) ** 2)
    return np.flip(mean, 0)


def segments(polar: NDArray[np.float32], center: float) -> NDArray[np.float64]:
    """Return the net signal of the segments of one ring."""
    column = round(center / Q_MAX * (polar.shape[1] - 1))
    half = SEGMENT[1] // 2

    def total(start: int, stop: int) -> NDArray[np.float64]:
        rows = polar[100:400, start:stop].astype(np.float64)
        return rows.reshape(-1, SEGMENT[0], stop - start).sum(axis=(1, 2))

    beside = total(column - half - 15, column - half - 8) + total(
        column + half + 9, column + half + 16
    )
    return total(column - half, column + half + 1) - beside / 2


def width(polar: NDArray[np.float64], center: float) -> float:
    """Return the full width at half maximum of a ring, cells of q."""
    column = round(center / Q_MAX * (polar.shape[1] - 1))
    offset = np.arange(-12, 13)
    profile = np.nanmean(polar[100:400, column - 12 : column + 13], axis=0) - BACKGROUND
    mean = (profile @ offset) / profile.sum()
    return float(2.3548 * np.sqrt(profile @ (offset - mean) ** 2 / profile.sum()))


def times(
    methods: dict[str, Remap], frame: NDArray[np.generic], repeats: int
) -> dict[str, NDArray[np.float64]]:
    """Return the CPU time of the thread in ms, the methods in turns: neighbours matter little."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            began = time.thread_time()
            method(frame)
            seconds[name].append((time.thread_time() - began) * 1e3)
    return {name: np.array(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--realisations", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=40)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    geometry = Geometry.from_settings(GEOMETRY, SHAPE)
    methods = {
        "published": published(geometry),
        "ours, right": ours(geometry, "right"),
        "ours, fold": ours(geometry, "fold"),
    }
    mean = expected_counts(geometry)
    rng = np.random.default_rng(1)
    net: dict[str, list[list[NDArray[np.float64]]]] = {name: [] for name in methods}
    for _ in range(arguments.realisations):
        frame = rng.poisson(mean).astype(np.float32)
        for name, method in methods.items():
            polar = method(frame)
            net[name].append([segments(polar, center) for center in RINGS])
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, 1 thread; "
        f"OpenCV {cv2.__version__}, numpy {np.__version__}"
    )
    print(f"{'q, 1/angstrom':16s}" + "".join(f"{center:8.3f}" for center in RINGS))
    ratios = {}
    for name, values in net.items():
        cube = np.array(values)  # realisation, ring, segment
        ratios[name] = np.nanmean(cube.mean(axis=0) / cube.std(axis=0, ddof=1), axis=1)
    print(f"{'SNR, published':16s}" + "".join(f"{v:8.1f}" for v in ratios["published"]))
    for name in list(methods)[1:]:
        gain = ratios[name] / ratios["published"]
        print(f"{'gain, ' + name[6:]:16s}" + "".join(f"{v:8.2f}" for v in gain))
    true = 2.3548 * SIGMA / Q_MAX * 1023
    print(f"{'FWHM (true ' + f'{true:.2f})':16s}")
    for name, method in methods.items():
        polar = method(mean.astype(np.float32)).astype(np.float64)
        print(f"  {name:14s}" + "".join(f"{width(polar, center):8.2f}" for center in RINGS))
    for dtype in ("float32", "int32", "uint16"):
        taken = times(methods, rng.poisson(mean).astype(dtype), arguments.repeats)
        print(
            f"time, {dtype:8s}"
            + "; ".join(
                f"{name} {np.median(ms):.2f} ms (x {np.median(ms / taken['published']):.2f})"
                for name, ms in taken.items()
            )
        )


if __name__ == "__main__":
    main()

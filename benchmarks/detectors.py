"""Time of the detectors and the lines they find on the real MAPbBr3 frame, side by side.

Every detector sees the same remapped frame with its own contrast; one thread, timed in turns.
The published networks see it a second time as their own program remaps: one bilinear sample a bin.
A line counts as found when the centre of a box lies within 0.5 % of it in |q|, or within one and a
half bins where those are more. Noise, if asked for, is Gaussian with that many counts, added to
the raw frame.

    python benchmarks/detectors.py FRAME.tif [--names light-2026 gixi-2022] [--noise 0 30 60 120]
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from gixi_bluesky.processing.detector import Detector, load_detector
from gixi_bluesky.processing.geometry.calibration import orient
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings, GridSettings
from gixi_bluesky.processing.types import Detections, PolarImage

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests")]

from real_frames import (  # noqa: E402 - shared with the tests
    FOREIGN_RING,
    MAPBBR3,
    MAPBBR3_RINGS,
    MAPBBR3_WEAK,
)

LINES = np.sort([*MAPBBR3_RINGS, MAPBBR3_WEAK])
TOLERANCE, BINS = 0.005, 1.5
THRESHOLD = 0.5
Q_MAX = 3.9


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    frame = orient(tifffile.imread(options.frame), MAPBBR3)
    remapper = Remapper(
        Geometry.from_settings(MAPBBR3, frame.shape),
        GridSettings(q_max_inv_angstrom=Q_MAX),
        CorrectionSettings(),
        frame.shape,
    )
    detectors = [load_detector(name) for name in options.names]
    polar = remapper(frame)
    cpu, shape = platform.processor() or platform.machine(), polar.intensity.shape
    print(f"{cpu}, torch {torch.__version__}, one thread, polar image of {shape}")
    times = timed(detectors, polar.intensity[None], options.repeats)
    for detector in detectors:
        contrast, detect = (1e3 * np.median(t) for t in times[detector.name])
        print(f"{detector.name:>20}  contrast {contrast:6.1f} ms  detect {detect:7.1f} ms")
    for noise in options.noise:
        report(detectors, remapper, frame, noise, options.realisations if noise else 1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frame", type=Path)
    parser.add_argument("--names", nargs="+", default=["light-2026", "classical", "gixi-2022"])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0])
    parser.add_argument("--realisations", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=7)
    return parser.parse_args()


def timed(
    detectors: list[Detector], polar: NDArray[np.float32], repeats: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Return the times of contrast and detection in seconds, detectors in turns."""
    times: dict[str, tuple[list[float], list[float]]] = {d.name: ([], []) for d in detectors}
    for repeat in range(repeats + 1):
        for detector in detectors:
            began = time.perf_counter()
            prepared = detector.prepare(polar)
            between = time.perf_counter()
            detector(prepared)
            if repeat:  # the first round warms up
                times[detector.name][0].append(between - began)
                times[detector.name][1].append(time.perf_counter() - between)
    return times


def report(
    detectors: list[Detector],
    remapper: Remapper,
    frame: NDArray[np.generic],
    noise: float,
    realisations: int,
) -> None:
    """Print the lines found and the boxes off any line, the mean over realisations of noise."""
    print(f"noise {noise:g} counts, {realisations} realisation(s), threshold {THRESHOLD}")
    results: dict[str, list[tuple[NDArray[np.bool_], int]]] = {d.name: [] for d in detectors}
    for seed in range(realisations):
        added = np.random.default_rng(seed).normal(0, noise, frame.shape) if noise else 0
        noisy = (frame + added).astype(np.float32)
        polar = remapper(noisy)
        for detector in detectors:
            (found,) = detector(detector.prepare(polar.intensity[None]))
            results[detector.name].append(judged(found, polar))
            if detector.name.startswith("gixi"):
                own = detector.prepare(bilinear(noisy, remapper)[None])
                results.setdefault(f"{detector.name}, bilinear", []).append(
                    judged(detector(own)[0], polar)
                )
    for name, each in results.items():
        lines = np.mean([found for found, _ in each], axis=0)
        off = np.mean([boxes for _, boxes in each])
        missing = ", ".join(f"{q:.3f}" for q in LINES[lines < 0.5]) or "none"
        print(f"{name:>28}  {lines.sum():4.1f} of {len(LINES)} lines, {off:.1f} boxes off any line")
        print(f"{'':>28}  missing in most: {missing}")


def bilinear(frame: NDArray[np.float32], remapper: Remapper) -> NDArray[np.float32]:
    """Return (n_phi, n_q) single samples of the frame, NaN where it has none."""
    phi = np.radians(remapper.grid.phi)[:, None]
    q_xy, q_z = remapper.grid.q * np.cos(phi), remapper.grid.q * np.sin(phi)
    rows, columns = (x.astype(np.float32) for x in remapper.geometry.pixel_at(q_xy, q_z))
    return cv2.remap(frame, columns, rows, cv2.INTER_LINEAR, borderValue=np.nan)


def judged(found: Detections, polar: PolarImage) -> tuple[NDArray[np.bool_], int]:
    """Return which lines have a box, and how many boxes have no line."""
    boxes = found.above(THRESHOLD, 300).boxes
    q = np.interp((boxes[:, 0] + boxes[:, 2]) / 2, np.arange(len(polar.q)), polar.q)
    known = np.append(LINES, FOREIGN_RING)
    near = np.abs(q[:, None] - known) < np.maximum(
        TOLERANCE * known, BINS * (polar.q[1] - polar.q[0])
    )
    return near.any(axis=0)[:-1], int((~near.any(axis=1)).sum())


if __name__ == "__main__":
    main()

"""Frames per second with several analysis processes, and the memory that they share.

    python benchmarks/workers.py            # coordination: a pipeline that sleeps 100 ms a frame
    python benchmarks/workers.py --real     # the real chain on simulated frames of 4 megapixels

Each line is relative to one process in the same run. On a busy machine, read the processor time of
the analysis processes a frame, which coordination must not raise; the load is printed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil

from gixi_bluesky.bench.frames import DETECTOR, beamline, simulated_frames
from gixi_bluesky.callbacks.images.locations import InlineImage
from gixi_bluesky.callbacks.worker.jobs import Job
from gixi_bluesky.callbacks.worker.pool import PIPELINE, ProcessPool
from gixi_bluesky.config import Config
from gixi_bluesky.log import configure_logging
from gixi_bluesky.processing.geometry.conditions import Conditions
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks
from gixi_bluesky.processing.types import FrameResult, PolarImage

SLEEP_S = 0.1
DIFFERENT = 4


class SleepingPipeline:
    """Takes `SLEEP_S` a frame and no processor time."""

    structures: tuple[Any, ...] = ()
    provenance = SimpleNamespace(device="cpu", result_hash="sleeps")

    def __init__(self, _: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Return a result without peaks."""
        time.sleep(SLEEP_S)
        image = np.zeros((64, 128), np.float32)
        polar = PolarImage(image, image, image, np.arange(128.0), np.arange(64.0))
        none = Peaks.empty(), Matches.empty(), MatchPeaks.empty()
        return FrameResult(polar, *none, incidence_angle_deg=0.5, seconds={})


def jobs(number: int, images: Any) -> Iterator[Job]:
    for frame in range(number):
        image = InlineImage(images[frame % len(images)])
        yield Job("benchmark", frame, image, Conditions(), 0.0, keep_image=True)


def run(config: Config, factory: str, workers: int, n_frames: int, images: Any) -> dict[str, float]:
    """Return frames/s from the first to the last outcome, processor time, and memory in MiB."""
    pool = ProcessPool(config, factory, workers)
    pool.start()
    try:
        cpu = time.process_time()
        begun = processor_s(pool)
        waiting = jobs(n_frames + 2 * workers, images)
        ended: list[float] = []
        while len(ended) < n_frames + 2 * workers:
            while pool.room and (job := next(waiting, None)) is not None:
                pool.submit(job)
            for _, outcome in pool.finished(1.0):
                if outcome.status != "ok":
                    raise SystemExit(outcome.reason)
                ended.append(time.perf_counter())
        # The first ones build maps, and the last ones leave processes idle.
        first, last = workers, n_frames + workers
        cpu_ms = 1e3 * (time.process_time() - cpu) / len(ended)
        rate = (last - first) / (ended[last] - ended[first])
        return {
            "rate": rate,
            "cpu_ms": cpu_ms,
            "analysis_ms": 1e3 * (processor_s(pool) - begun) / len(ended),
            "rss": memory(pool, "Rss"),
            "pss": memory(pool, "Pss"),
        }
    finally:
        pool.close()


def processor_s(pool: ProcessPool) -> float:
    """Return the processor time of the analysis processes so far."""
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pool.pids)


def memory(pool: ProcessPool, kind: str) -> float:
    """Return the memory of all processes of a pool in MiB; Pss counts what they share once."""
    pids = set(pool.pids)
    if pool.builder_pid is not None:
        pids.add(pool.builder_pid)
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                total += int(line.split()[1])
    return total / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", action="store_true", help="the real chain")
    parser.add_argument("--frames", type=int, default=None, help="frames per process")
    parser.add_argument("--workers", type=int, nargs="+", default=None)
    parser.add_argument("--side", type=int, default=256, help="pixels of the sleeping frames")
    options = parser.parse_args()
    configure_logging("ERROR")
    config = beamline()
    if options.real:
        factory, counts, each = PIPELINE, options.workers or [1, 2], options.frames or 40
        images = simulated_frames(config, DIFFERENT, DETECTOR).clip(0, 65535).astype(np.uint16)
    else:
        factory, counts, each = "workers:SleepingPipeline", options.workers, 40
        counts, each = counts or [1, 8], options.frames or each
        images = np.zeros((1, options.side, options.side), np.uint16)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("           frames/s  ratio  CPU ms a frame: scan, analysis  memory MiB: RSS, PSS")
    alone = 0.0
    for workers in counts:
        found = run(config, factory, workers, each * workers, images)
        alone = alone or found["rate"] / workers
        ratio = found["rate"] / alone
        print(
            f"{workers:9d}  {found['rate']:8.1f}  {ratio:5.2f}  "
            f"{found['cpu_ms']:20.2f} {found['analysis_ms']:9.1f}  "
            f"{found['rss']:15.0f} {found['pss']:8.0f}"
        )


if __name__ == "__main__":
    main()

"""Timing of several chains that take turns frame by frame, so that other load affects all alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.pipeline import Pipeline

__all__ = ["WHOLE", "ChainTimes", "Rate", "StageSummary", "time_chains"]

WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class StageSummary:
    """Milliseconds a frame: median and 90 % quantile of wall time, median of CPU time.

    ratio, cpu_ratio: median over the frames of this chain's time over that of the first chain
    """

    median_ms: float
    p90_ms: float
    cpu_ms: float
    ratio: float
    cpu_ratio: float


@dataclass(frozen=True, slots=True)
class Rate:
    """Frames a second."""

    one_by_one: float
    in_batches: float


@dataclass(frozen=True, slots=True)
class ChainTimes:
    """Times of one chain; `stages` in the order of the chain, the sum as `whole` at the end.

    weights, sha256, device, engine: of its detector; peaks: found in the median frame
    maps_ms: building the maps, once
    """

    weights: str
    sha256: str
    device: str
    engine: str
    peaks: int
    maps_ms: float
    stages: dict[str, StageSummary]
    frames_per_second: Rate

    def as_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


@dataclass(slots=True)
class _Record:
    """The seconds of one chain, frame after frame, and of its batches."""

    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    peaks: list[int] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    maps_s: float = 0.0


def time_chains(
    pipelines: Sequence[Pipeline], frames: NDArray[Any], count: int, batch: int
) -> list[ChainTimes]:
    """Time every pipeline on `count` frames one by one, then on as many in batches of `batch`.

    frames: (n, rows, columns), used over and over. One-time work, such as building the maps, is
    done before.
    """
    records = [_Record() for _ in pipelines]
    stack = frames[np.arange(batch) % len(frames)]
    for pipeline, record in zip(pipelines, records, strict=True):
        record.maps_s = pipeline(frames[0]).seconds["maps"]
        pipeline.batch(stack)
    for i in range(count):
        for pipeline, record in zip(pipelines, records, strict=True):
            _time_frame(pipeline, frames[i % len(frames)], record)
    for _ in range(-(-count // batch)):
        for pipeline, record in zip(pipelines, records, strict=True):
            began = time.perf_counter()
            pipeline.batch(stack)
            record.batches.append(time.perf_counter() - began)
    return [
        _summary(pipeline, record, records[0], batch)
        for pipeline, record in zip(pipelines, records, strict=True)
    ]


def _time_frame(pipeline: Pipeline, frame: NDArray[Any], record: _Record) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    result = pipeline(frame)
    whole = time.perf_counter() - wall, time.process_time() - cpu
    record.peaks.append(len(result.peak_table))
    walls, cpus = result.seconds | {WHOLE: whole[0]}, result.cpu_seconds | {WHOLE: whole[1]}
    for stage in walls:
        record.wall.setdefault(stage, []).append(walls[stage])
        record.cpu.setdefault(stage, []).append(cpus[stage])


def _summary(pipeline: Pipeline, record: _Record, first: _Record, batch: int) -> ChainTimes:
    stages = {
        stage: StageSummary(
            median_ms=1e3 * float(np.median(record.wall[stage])),
            p90_ms=1e3 * float(np.quantile(record.wall[stage], 0.9)),
            cpu_ms=1e3 * float(np.median(record.cpu[stage])),
            ratio=_ratio(record.wall[stage], first.wall[stage]),
            cpu_ratio=_ratio(record.cpu[stage], first.cpu[stage]),
        )
        for stage in record.wall
    }
    detector = pipeline.detector
    return ChainTimes(
        weights=detector.name,
        sha256=detector.sha256,
        device=detector.device,
        engine=detector.engine,
        peaks=int(np.median(record.peaks)),
        maps_ms=1e3 * record.maps_s,
        stages=stages,
        frames_per_second=Rate(
            one_by_one=len(record.wall[WHOLE]) / sum(record.wall[WHOLE]),
            in_batches=batch * len(record.batches) / sum(record.batches),
        ),
    )


def _ratio(times: Sequence[float], others: Sequence[float]) -> float:
    # A coarse CPU clock reads 0 for short stages.
    return float(np.median(np.divide(times, np.maximum(others, 1e-9))))

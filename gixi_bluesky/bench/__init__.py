"""Benchmark of the chain on this machine: set-up, frames, timing, and the machine."""

from gixi_bluesky.bench.chains import ChainTimes, Rate, StageSummary, time_chains
from gixi_bluesky.bench.frames import DETECTOR, beamline, require_free_size, simulated_frames
from gixi_bluesky.bench.machine import machine

__all__ = [
    "DETECTOR",
    "ChainTimes",
    "Rate",
    "StageSummary",
    "beamline",
    "machine",
    "require_free_size",
    "simulated_frames",
    "time_chains",
]

"""All measurements of speed that need a GPU, in a few minutes; also runs on the CPU, as a trial.

Frames of a simulated film in host memory go through the whole chain one by one and in batches;
printed are frames/s, milliseconds a frame of each stage and of each step on the device, the peak
memory of the device, and how far peaks lie from those of the CPU. A stage on a GPU is timed until
it is launched; what runs then counts in `detect`, which waits for it. Then the largest batch is run
again with most of the GPU's memory taken, which must end in smaller batches or on the CPU, with the
same peaks. The chain of a CPU set-up is measured in the same run, on as many frames one by one.
With --device cpu, torch computes on the CPU as it would on a GPU.

    python benchmarks/gpu.py [--device cuda] [--frames 64] [--weights default large gixi-2022]
                             [--shape 2048 2048]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gixi_bluesky.bench import DETECTOR, beamline, machine, simulated_frames
from gixi_bluesky.config import Config
from gixi_bluesky.processing.detector.networks.device_input import device_input
from gixi_bluesky.processing.detector.networks.light_detector import LightDetector
from gixi_bluesky.processing.geometry.calibration import orient
from gixi_bluesky.processing.on_device.device_means import DeviceMean
from gixi_bluesky.processing.on_device.frames import DeviceFrames
from gixi_bluesky.processing.pipeline import Pipeline
from gixi_bluesky.processing.pixels.outliers import find_outliers
from gixi_bluesky.processing.types import FrameResult

BATCHES = (1, 2, 4, 8)
LEFT_FREE = 64 << 20  # bytes of the GPU's memory, in the trial of too little


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--exposures", type=int, default=8)
    parser.add_argument("--shape", type=int, nargs=2, default=DETECTOR, help="rows, columns")
    parser.add_argument("--weights", nargs="+", default=["default", "large"])
    options = parser.parse_args()
    about = machine()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    config = beamline()
    stack = (
        simulated_frames(config, options.exposures, tuple(options.shape)).clip(0).astype(np.uint16)
    )
    print(f"frames of {stack.shape[1:]} {stack.dtype}, grid {config.grid.shape}")
    for weights in options.weights:
        on_cpu = Pipeline(set_up(config, weights, "cpu"))
        expected = on_cpu.batch(stack)
        report(weights, on_cpu, stack, 1, options.frames)
        pipeline = on_device(config, weights, options.device)
        for batch in BATCHES:
            report(weights, pipeline, stack, batch, options.frames)
        report_steps(pipeline, config, stack[0], options.frames)
        print(f"  against the CPU: {difference(expected, pipeline.batch(stack))}")
        if pipeline.detector.device != "cpu":
            with_little_memory(config, weights, options.device, stack, expected)


def on_device(config: Config, weights: str, device: str) -> Pipeline:
    """Return the chain with these weights in torch on a device."""
    return Pipeline(set_up(config, weights, device), tensors_on_cpu=device == "cpu")


def set_up(config: Config, weights: str, device: str) -> Config:
    """Return the configuration with these weights on a device."""
    update = {"weights": weights, "device": device}
    return config.model_copy(update={"detector": config.detector.model_copy(update=update)})


def report(weights: str, pipeline: Pipeline, stack: NDArray[Any], batch: int, frames: int) -> None:
    """Print the rate and the stages of frames that go through in batches of `batch`."""
    chosen = stack[np.arange(batch) % len(stack)]
    pipeline.batch(chosen)  # builds maps, captures graphs
    cuda = pipeline.detector.device != "cpu"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    stages: dict[str, list[float]] = {}
    began = time.perf_counter()
    for _ in range(-(-frames // batch)):
        for result in pipeline.batch(chosen):
            for stage, seconds in result.seconds.items():
                stages.setdefault(stage, []).append(1e3 * seconds)
    took = (time.perf_counter() - began) / (-(-frames // batch) * batch)
    memory = f", {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB" if cuda else ""
    parts = ", ".join(f"{name} {np.median(ms):.2f}" for name, ms in stages.items())
    where = f"{pipeline.detector.device} ({pipeline.detector.engine})"
    print(f"{weights} on {where}, batches of {batch}: {1 / took:.1f} frames/s{memory}; ms: {parts}")


def report_steps(pipeline: Pipeline, config: Config, frame: NDArray[Any], repeats: int) -> None:
    """Print milliseconds of each step on the device, waited for one by one."""
    detector = pipeline.detector
    if not isinstance(detector, LightDetector):
        return
    device = torch.device(detector.device)
    frames, mean = DeviceFrames(device, ()), DeviceMean(device)
    remapper = pipeline.remapper((frame.shape[0], frame.shape[1]))
    turned = orient(frame, config.geometry)
    took: dict[str, list[float]] = {}

    def step(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.setdefault(name, []).append(1e3 * (time.perf_counter() - began))
        return result

    with torch.inference_mode():
        for _ in range(repeats + 1):
            outliers = step("outliers (CPU)", lambda: find_outliers(turned, remapper.masked))
            raw = step("upload", lambda: frames.upload(turned))
            how = turned, outliers, remapper.pixels, 1
            counts = step("counts", partial(frames.corrected, raw, *how))
            image = step("remap", partial(mean, remapper.polar_mean, counts))
            prepared = step("contrast", partial(detector.prepare_on_device, image.intensity))
            step("input", partial(device_input, prepared[None]))
            step("input, network, suppression", partial(detector.boxes, prepared[None]))
            arriving = step("download", partial(frames.transfers.down, image.intensity))
            arriving.wait()
    parts = ", ".join(f"{name} {np.median(ms[1:]):.2f}" for name, ms in took.items())
    print(f"  steps, each waited for; ms: {parts}")


def difference(expected: list[FrameResult], found: list[FrameResult]) -> str:
    """Describe how far peaks lie from those of the CPU."""
    counts = [(len(a.peak_table), len(b.peak_table)) for a, b in zip(expected, found, strict=True)]
    if any(a != b for a, b in counts):
        return f"other numbers of peaks, {counts}"
    pairs = [(a.peak_table, b.peak_table) for a, b in zip(expected, found, strict=True)]
    step = expected[0].q[1] - expected[0].q[0]
    dq = max(float(np.abs(a.q - b.q).max(initial=0)) for a, b in pairs) / step
    score = max(float(np.abs(a.score - b.score).max(initial=0)) for a, b in pairs)
    return f"the same peaks, |dq| up to {dq:.4f} bins, scores within {score:.5f}"


def with_little_memory(
    config: Config, weights: str, device: str, stack: NDArray[Any], expected: list[FrameResult]
) -> None:
    """Run the largest batch with most of the memory taken."""
    pipeline = on_device(config, weights, device)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(max(free - LEFT_FREE, 0), dtype=torch.uint8, device=device)
    found = pipeline.batch(stack)
    del taken
    torch.cuda.empty_cache()
    print(f"  with {LEFT_FREE >> 20} MiB free: {difference(expected, found)}")


if __name__ == "__main__":
    main()

"""Size and time of polar images in HDF5 with different filters.

    python benchmarks/image_filters.py [--images N]

The images are simulated exposures of the demo's film, remapped with the default grid. Times are CPU
time of this process; `none` is a plain copy.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

import gixi_bluesky as gixi
from gixi_bluesky.bench.frames import beamline, simulated_frames
from gixi_bluesky.tiled_adapters.files.polar_images import create_images, write_image

FILTERS = {
    "none": {},
    "gzip-1": {"compression": "gzip", "compression_opts": 1},
    "shuffle gzip-1": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "shuffle gzip-4": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
    "shuffle gzip-9": {"compression": "gzip", "compression_opts": 9, "shuffle": True},
    "shuffle lzf": {"compression": "lzf", "shuffle": True},
    "shuffle gzip (ISA-L)": None,
    "bitshuffle lz4": hdf5plugin.Bitshuffle(cname="lz4"),
    "bitshuffle zstd-3": hdf5plugin.Bitshuffle(cname="zstd", clevel=3),
    "blosc2 zstd-5": hdf5plugin.Blosc2(cname="zstd", clevel=5, filters=hdf5plugin.Blosc2.SHUFFLE),
}


def images(count: int) -> np.ndarray:
    config = beamline()
    config = config.model_copy(
        update={"detector": config.detector.model_copy(update={"weights": "classical"})}
    )
    pipeline = gixi.Pipeline(config)
    frames = simulated_frames(config, count)
    return np.stack([pipeline(frame).polar_image for frame in frames])


def measure(stack: np.ndarray, options: dict | None, path: Path) -> tuple[int, float, float]:
    began = time.process_time()
    with h5py.File(path, "w") as file:
        if options is None:
            dataset = create_images(file, stack.shape[1:], len(stack))
            file["i"] = dataset
            for row, image in enumerate(stack):
                write_image(dataset, row, image)
        else:
            dataset = file.create_dataset(
                "i", stack.shape, "<f4", chunks=(1, *stack.shape[1:]), **options
            )
            for row, image in enumerate(stack):
                dataset[row] = image
    written = time.process_time() - began
    began = time.process_time()
    with h5py.File(path) as file:
        same = all(
            np.array_equal(file["i"][k], stack[k], equal_nan=True) for k in range(len(stack))
        )
    if not same:
        raise SystemExit("what was read is not what was written")
    return path.stat().st_size, written, time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=6)
    stack = images(parser.parse_args().images)
    valid = np.isfinite(stack).mean()
    print(f"{len(stack)} images of {stack.shape[1:]}, {valid:.0%} of the bins hold data")
    print("| filter | size | ms to write | ms to read |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, options in FILTERS.items():
            size, written, read = measure(
                stack, None if options is None else dict(options), Path(folder) / "i.h5"
            )
            n = len(stack)
            print(
                f"| {name} | {size / stack.nbytes:.2f} | {1000 * written / n:.1f} "
                f"| {1000 * read / n:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Frames a second end to end, CPU time of each process, memory and latency, for an Eiger 4M.

    python benchmarks/throughput.py [--frames 40] [--workers 1 2] [--only process tiled kafka remap]
    python benchmarks/throughput.py --latency [--rate 10]

Frames of 2167 x 2070 pixels, uint32, as raw TIFF files, as one bitshuffle-LZ4 HDF5 file and inside
events, go through
- process: `gixi-bluesky process`, from the first to the last result on its output,
- tiled: the callback beside a Tiled server in a process of its own, until the run is stored with
  its images,
- kafka: a consumer beside the same server, from the first message to the last offset committed;
  images inside events only.
CPU time is that of all processes of a kind, a frame; memory is the largest sum of the resident
memory. `remap` times what a user would take instead of our remap, in turns, on the same frames.
--latency writes a TIFF file every 1/rate s and takes the time until another client of the server
reads its row. The load of the machine is printed: read ratios on a busy one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import psutil
import tifffile
import yaml
from numpy.typing import NDArray

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1] / "tests"), str(HERE.parents[1] / "tests" / "system")]

from raw_runs import inline_run  # noqa: E402 - the tests' raw runs
from remap_snr import published  # noqa: E402
from tiled.client import from_uri  # noqa: E402
from tiled_writer import KEY, Server, watch  # noqa: E402

from gixi_bluesky.bench.frames import simulated_frames  # noqa: E402
from gixi_bluesky.callbacks import Analysis  # noqa: E402
from gixi_bluesky.callbacks.folder import FolderRun, folder_input  # noqa: E402
from gixi_bluesky.config import Config, parse_config  # noqa: E402
from gixi_bluesky.log import configure_logging  # noqa: E402
from gixi_bluesky.processing.geometry.instrument import Geometry, orient  # noqa: E402
from gixi_bluesky.processing.remap.remapper import Remapper  # noqa: E402
from gixi_bluesky.processing.structures.cif_files import shipped_cifs  # noqa: E402

SHAPE = (2167, 2070)
DIFFERENT = 4
SECTIONS: dict[str, Any] = {
    "geometry": {
        "wavelength_angstrom": 0.6888,
        "distance_mm": 300.0,
        "pixel_size_mm": [0.075, 0.075],
        "beam_center_px": [222.0, 545.0],
        "incidence_angle_deg": 0.5,
        "flip": "vertical",
    },
    "grid": {"q_max_inv_angstrom": 3.9},
    "matching": {"cif": [str(path) for path in shipped_cifs().values()]},
}
KINDS = ("tiff", "bslz4", "inline")


def configured(folder: Path, workers: int | str = 1) -> tuple[Config, Path]:
    """Return a configuration that stores below `folder`, and its file."""
    output = {"directory": str(folder / "results")}
    tree = {**SECTIONS, "output": output, "queue": {"workers": workers}}
    path = folder / f"config-{workers}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return parse_config(tree, folder=folder), path


def written(kind: str, frames: NDArray[Any], folder: Path) -> Path:
    """Write the frames into a folder of their own and return it."""
    place = folder / f"{kind}-raw"
    if not place.exists():
        place.mkdir()
        if kind == "tiff":
            for i, frame in enumerate(frames):
                tifffile.imwrite(place / f"img_{i:05d}.tif", frame)
        else:
            with h5py.File(place / "data.h5", "w") as file:
                filters = hdf5plugin.Bitshuffle(cname="lz4")
                chunks = (1, *SHAPE)
                file.create_dataset("/entry/data/data", data=frames, chunks=chunks, **filters)
    return place


class Usage:
    """CPU seconds of processes and the largest sum of their resident memory, while it is entered.

    roots: name of the kind → process whose descendants count, too
    """

    def __init__(self, roots: dict[str, int]) -> None:
        self._roots = roots
        self._cpu: dict[tuple[str, int], tuple[float, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.mib = 0.0

    def __enter__(self) -> Usage:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def cpu_ms(self, frames: int) -> str:
        """Return the milliseconds of each kind a frame."""
        sums: dict[str, float] = defaultdict(float)
        for (kind, _), (first, last) in self._cpu.items():
            sums[kind] += last - first
        return " + ".join(f"{1e3 * s / frames:.0f} {kind}" for kind, s in sums.items())

    def _follow(self) -> None:
        while not self._ended.wait(0.3):
            self._look()

    def _look(self) -> None:
        total = 0
        begun = self._thread.is_alive()
        for kind, pid in self._roots.items():
            for process, name in _tree(kind, pid):
                try:
                    times, total = process.cpu_times(), total + process.memory_info().rss
                except psutil.Error:
                    continue
                used = times.user + times.system
                # What appears later began from nothing.
                first = self._cpu.get((name, process.pid), (0.0 if begun else used, 0.0))[0]
                self._cpu[name, process.pid] = (first, used)
        self.mib = max(self.mib, total / (1 << 20))


def _tree(kind: str, pid: int) -> Iterator[tuple[psutil.Process, str]]:
    try:
        root = psutil.Process(pid)
        yield root, kind
        for child in root.children(recursive=True):
            yield child, f"{kind}'s children"
    except psutil.Error:
        return


def process(kind: str, place: Path, folder: Path, workers: int, frames: int) -> None:
    """Time `gixi-bluesky process`."""
    _, config = configured(folder, workers)
    files = sorted(str(path) for path in place.iterdir())
    command = [sys.executable, "-m", "gixi_bluesky", "process", *files, "--config", str(config)]
    child = subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with Usage({"command": child.pid}) as usage:
        moments = [time.monotonic() for line in child.stdout or () if '"status"' in line]
    child.wait()
    if len(moments) != frames:
        raise SystemExit(f"process gave {len(moments)} of {frames} results")
    rate = (len(moments) - 1) / (moments[-1] - moments[0])
    row("process", kind, workers, rate, usage, frames)


@contextmanager
def analysing(
    folder: Path, server: Server, workers: int | str, *, folders: bool = True
) -> Iterator[Analysis]:
    config, _ = configured(folder, workers)
    client = from_uri(server.uri, api_key=KEY)["gixi"]
    try:
        if folders:
            config = config.model_copy(update={"input": folder_input(config.input, folder)})
        with Analysis(config, client) as analysis:
            yield analysis
    finally:
        client.context.close()


def tiled(
    kind: str, place: Path, frames: NDArray[Any], folder: Path, workers: int, server: Server
) -> None:
    """Time the callback beside a server, until the run is stored."""
    with analysing(folder, server, workers, folders=kind != "inline") as analysis:
        roots = {"scan": os.getpid(), "server": server.process.pid}
        with Usage(roots) as usage:
            began = time.monotonic()
            if kind == "inline":
                for document in inline_run(frames):
                    analysis.feed(*document)
            else:
                run = FolderRun(place, analysis.feed)
                while run.n_frames < len(frames):
                    run.poll()
                run.stop()
            analysis.drain(1200)
            seconds = time.monotonic() - began
        status = analysis.status()
        if status["frames_done"] != len(frames):
            raise SystemExit(f"not all frames were analysed: {status['last_error']}")
    row("tiled", kind, workers, len(frames) / seconds, usage, len(frames))


def kafka(frames: NDArray[Any], folder: Path, stack: ExitStack) -> None:
    """Time a consumer of a topic beside a server."""
    from consumer_process import REAL_PIPELINE
    from kafka_broker import Broker
    from kafka_site import Site
    from served import Server as SiteServer

    from gixi_bluesky.callbacks.kafka.wire import encode

    place = folder / "kafka"
    place.mkdir()
    broker = stack.enter_context(Broker(place))
    server = SiteServer(place)
    stack.callback(server.close)
    server.start()
    site = Site(broker.bootstrap, server, place)
    stack.callback(site.close)
    site.sections = SECTIONS
    site.create(1)
    consumer = site.consumer("one", **{REAL_PIPELINE: "1"})
    consumer.wait_until(lambda beat: len(beat.partitions) == 1, 300)
    began = time.monotonic()
    site.send(*(encode(*document) for document in inline_run(frames)), partition=0)
    site.await_committed(1800)
    rate = len(frames) / (time.monotonic() - began)
    consumer.end()
    print(f"kafka    inline  {'auto':>7}  {rate:8.2f}  (with the time to publish)")


def row(entrance: str, kind: str, workers: int, rate: float, usage: Usage, frames: int) -> None:
    cpu = usage.cpu_ms(frames)
    print(f"{entrance:8} {kind:7} {workers:7d}  {rate:8.2f}  {usage.mib:10.0f}  {cpu}", flush=True)


def remaps(config: Config, frames: NDArray[Any], count: int) -> None:
    """Time our remap in turns with pyFAI's integration and one bilinear sample a bin."""
    from pyFAI.detectors import Detector
    from pyFAI.integrator.fiber import FiberIntegrator

    settings = config.geometry
    geometry = Geometry.from_settings(settings, SHAPE)
    remapper = Remapper(geometry, config.grid, config.corrections, SHAPE)
    pixel1, pixel2 = geometry.pixel_size_m
    integrator = FiberIntegrator(
        geometry.distance_m,
        *geometry.poni_m,
        *geometry.rotations_rad,
        detector=Detector(pixel1, pixel2, max_shape=SHAPE),
        wavelength=geometry.wavelength_angstrom * 1e-10,
    )

    def with_pyfai(method: str) -> Any:
        return lambda frame: integrator.integrate2d_fiber(
            frame,
            npt_ip=config.grid.shape[1],
            npt_oop=config.grid.shape[0],
            unit_ip="qtot_A^-1",
            unit_oop="chigi_deg",
            incident_angle=geometry.incidence_angle_rad,
            sample_orientation=1,
            method=("no", method, "cython"),
        )

    ways = {
        "ours, with variance and counts": remapper,
        "pyFAI, histogram": with_pyfai("histogram"),
        "pyFAI, CSR": with_pyfai("csr"),
        "one bilinear sample a bin": published(geometry),
    }
    turned = [orient(frame, settings) for frame in frames]
    times: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(count + 1):
        for name, way in ways.items():
            began = time.process_time()
            way(turned[i % len(turned)])
            if i:  # the first builds maps
                times[name].append(1e3 * (time.process_time() - began))
    first = np.median(next(iter(times.values())))
    print("remap alone                       CPU ms   ratio")
    for name, spent in times.items():
        print(f"{name:32}  {np.median(spent):6.1f}  {np.median(spent) / first:6.2f}")


def latency(frames: NDArray[Any], rate: float, n: int, folder: Path, server: Server) -> None:
    """Print how long after its file was written another client reads the row of a frame."""
    place = folder / "live"
    place.mkdir()
    ends = threading.Event()
    with analysing(folder, server, "auto") as analysis:
        run = FolderRun(place, analysis.feed)

        def follow() -> None:
            while not (ends.is_set() and run.n_frames == n):
                run.poll()
                time.sleep(0.05)

        follower = threading.Thread(target=follow, daemon=True)
        tifffile.imwrite(place / "img_00000.tif", frames[0])  # builds maps
        follower.start()
        client = from_uri(server.uri, api_key=KEY)["gixi"]
        while not (uids := list(client)):
            time.sleep(0.1)
        client.context.close()
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        reader = spawn.Process(target=watch, args=(theirs, server.uri, uids[0]), daemon=True)
        reader.start()
        ours.recv()
        made = [time.monotonic()]
        for i in range(1, n):
            time.sleep(max(0.0, made[0] + i / rate - time.monotonic()))
            tifffile.imwrite(place / f"img_{i:05d}.tif", frames[i % len(frames)])
            made.append(time.monotonic())
        ends.set()
        ours.send(n)
        looks = ours.recv()
        reader.join()
        follower.join()
        run.stop()
        analysis.drain(300)
    seen_at = np.full(n, np.inf)
    before = 0
    for moment, seen in looks:
        seen_at[before:seen] = moment
        before = max(before, seen)
    lags = (seen_at - made)[1:]
    quantiles = np.quantile(lags, [0.5, 0.95])
    print(f"{rate:g} frames/s: median {quantiles[0]:.2f} s, 95 % {quantiles[1]:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--only", nargs="+", default=["process", "tiled", "kafka", "remap"])
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--rate", type=float, default=10.0)
    options = parser.parse_args()
    configure_logging("ERROR")
    print(f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config, _ = configured(folder)
        different = np.clip(np.rint(simulated_frames(config, DIFFERENT, SHAPE)), 0, 2**31)
        different = different.astype("<u4")
        frames = different[np.arange(options.frames) % DIFFERENT]
        if options.latency:
            server = stack.enter_context(Server(folder))
            latency(different, options.rate, options.frames, folder, server)
            return
        print("entrance kind    workers  frames/s  memory MiB  CPU ms a frame")
        for kind in options.kinds:
            place = written(kind, frames, folder) if kind != "inline" else folder
            for workers in options.workers:
                if "process" in options.only and kind != "inline":
                    process(kind, place, folder, workers, options.frames)
                if "tiled" in options.only:
                    with tempfile.TemporaryDirectory() as other, Server(Path(other)) as server:
                        tiled(kind, place, frames, Path(other), workers, server)
        if "kafka" in options.only:
            kafka(frames, folder, stack)
        if "remap" in options.only:
            remaps(config, different, max(5, options.frames // 4))


if __name__ == "__main__":
    main()

"""Frames a second, lag to another client and CPU time: our writer beside the stock TiledWriter.

    python benchmarks/tiled_writer.py [--seconds 20] [--rate 100] [--peaks 50] [--images all]

Server, writer and reader are processes of their own, as at a beamline. `rate` analysed frames a
second, with `peaks` peaks and five phases each, go the way they go behind the analysis: rows
gathered, flushed `output.flush_s` after the last flush was done, spooled, sent. `--images` says
how many polar images of 512 x 1024 are written and registered besides. Another client reads
`frames` five times a second; the lag of a frame ends when that client has its row.
The stock writer gets the same documents; its batch, the same for every table, is the peaks of one
flush. What it holds back until the stop document is seen when that is stored.

The rate is that at which frames are seen, without the first and the last tenth. CPU time is what
each process used from the first frame until the stop was stored; on a busy machine it says more
than the rate.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pandas as pd
import psutil
from bluesky_tiled_plugins import TiledWriter
from tiled.client import from_uri

from gixi_bluesky.callbacks.derived.publishing import RunPublisher
from gixi_bluesky.callbacks.derived.stores import store_builder
from gixi_bluesky.callbacks.documents.document_types import RunStart, RunStop
from gixi_bluesky.callbacks.images.locations import InlineImage
from gixi_bluesky.callbacks.runs.raw_run import Frame, RawRun, RunClosed
from gixi_bluesky.callbacks.worker.jobs import Analysed, Outcome, Ready
from gixi_bluesky.config import Config, parse_config
from gixi_bluesky.processing.geometry.conditions import Conditions
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks, columns_of
from gixi_bluesky.provenance import Provenance, result_hash
from gixi_bluesky.tiled_adapters.store.writer import RunState

KEY = "benchmark0key"
POLL_S = 0.2
LAST_LOOK_S = 30.0
SHAPE = (512, 1024)
PHASES = 5
GEOMETRY = {
    "wavelength_angstrom": 1.0,
    "distance_mm": 300.0,
    "pixel_size_mm": [0.2, 0.2],
    "beam_center_px": [0.0, 0.0],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--peaks", type=int, default=50)
    parser.add_argument("--images", default="all", help="all, none or every_N")
    parser.add_argument("--only", choices=["ours", "stock"])
    options = parser.parse_args()
    for name in ("ours", "stock"):
        if options.only in {None, name}:
            with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
                measure(name, server, options)


class Server:
    """`gixi-bluesky serve` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}/api/v1"

    def __enter__(self) -> Server:
        command = ["serve", "--directory", str(self.folder), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gixi_bluesky", *command],
            env={**os.environ, "TILED_SINGLE_USER_API_KEY": KEY},
            stderr=subprocess.DEVNULL,
        )
        headers = {"Authorization": f"Apikey {KEY}"}
        while True:
            try:
                if httpx.get(f"{self.uri}/metadata/gixi", headers=headers).is_success:
                    return self
            except httpx.HTTPError:
                time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def cpu_s(self) -> float:
        """User and system time of the process so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system


class StockStore:
    """Gives the documents of a derived run to the stock TiledWriter."""

    keeps_rows = True
    trouble = ""

    def __init__(self, client: Any, batch_size: int) -> None:
        self._writer = TiledWriter(client, normalizer=None, batch_size=batch_size)

    def open(self, start: dict[str, Any]) -> RunState:
        """Begin the run."""
        self._writer("start", dict(start))
        return RunState(frozenset(), {})

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Store one document."""
        self._writer(name, dict(doc))

    def refresh_live(self, summary: Any) -> None:
        """Leave it: the stock writer has no place for it."""

    def read(self, _stream: str) -> pd.DataFrame:
        """Return no rows: a run is never resumed here."""
        return pd.DataFrame()

    def serves(self, _uid: str, _finished: Any) -> bool:
        """Return False: the parts stay."""
        return False

    def close(self) -> None:
        """Leave it: nothing is held."""


def configuration(folder: Path, images: str) -> Config:
    output = {"directory": "results", "images": images}
    return parse_config({"geometry": GEOMETRY, "output": output}, folder=folder)


def outcomes(n: int, peaks: int) -> list[Outcome]:
    """Return frames with peaks all over |q|, half of a polar image without data."""
    random = np.random.default_rng(1)
    image = random.normal(100, 10, SHAPE).astype(np.float32)
    image[:, SHAPE[1] // 2 :] = np.nan
    q, phi = np.linspace(0, 3.9, SHAPE[1]), np.linspace(0, 90, SHAPE[0])

    def table(of: Any, rows: int, **text: str) -> Any:
        values = {c.name: random.uniform(0, 3.9, rows) for c in columns_of(of)}
        for column in columns_of(of):
            if column.dtype == "<i8":
                values[column.name] = np.arange(rows)
            elif column.dtype.startswith("<U"):
                word = text.get(column.name, "")
                words = [f"{word}{k % PHASES}" if word else "" for k in range(rows)]
                values[column.name] = np.array(words, dtype=object)
        return of(**values)

    return [
        Outcome(
            "ok",
            result=Analysed(
                table(Peaks, peaks, kind="ring"),
                table(Matches, PHASES, phase="phase-"),
                table(MatchPeaks, peaks, phase="phase-"),
                q,
                phi,
                image,
                0.5,
                1e6,
            ),
        )
        for _ in range(n)
    ]


def measure(name: str, server: Server, options: argparse.Namespace) -> None:
    config = configuration(server.folder, options.images)
    client = from_uri(server.uri, api_key=KEY)["gixi"]
    if name == "ours":
        store: Any = store_builder(config, client)()
    else:
        rows = int(options.rate * options.peaks * config.output.flush_s)
        store = StockStore(client, batch_size=rows)
    raw = RawRun(RunStart(str(uuid4()), time.time(), 1, {}), "primary", "img")
    run = RunPublisher(raw, ready(config), store, config.output, config.tiled)
    run.step()
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    reader = spawn.Process(target=watch, args=(theirs, server.uri, run.documents.uid), daemon=True)
    reader.start()
    ours.recv()  # it is there
    made: list[float] = []
    analysed = outcomes(20, options.peaks)
    producer = threading.Thread(
        target=produce, args=(run, raw.uid, analysed, made, options), daemon=True
    )
    used = time.process_time(), server.cpu_s()
    producer.start()
    while not run.complete:
        run.step()
        time.sleep(config.output.flush_s)
        if run.last_error:
            raise RuntimeError(run.last_error)
    cpu = time.process_time() - used[0], server.cpu_s() - used[1]
    ours.send(len(made))
    looks = ours.recv()
    reader.join()
    producer.join()
    client.context.close()
    report(name, np.array(made), looks, cpu)


def ready(config: Config) -> Ready:
    provenance = Provenance(
        version="0",
        result_hash=result_hash({}),
        config=config.model_dump(mode="json", by_alias=True),
        geometry={},
        weights_name="",
        weights_sha256="",
        cif_sha256={},
    )
    return Ready(provenance, ())


def produce(
    run: RunPublisher, raw_uid: str, with_image: list[Outcome], made: list[float], options: Any
) -> None:
    """Add analysed frames at the moments when they are due."""
    without = [replace(o, result=replace(o.result, image=None)) for o in with_image]
    image = InlineImage(np.zeros((1, 1)))
    began = time.monotonic()
    for number in range(int(options.seconds * options.rate)):
        due = began + (number + 1) / options.rate
        time.sleep(max(0.0, due - time.monotonic()))
        frame = Frame(raw_uid, number, number + 1, 1.0, image, Conditions(), due, time.time())
        kept = with_image if run.keeps_image(frame) else without
        run.add(frame, kept[number % len(kept)])
        made.append(due)
    stop = RunStop(raw_uid, time.time(), "success", "", {})
    run.end(RunClosed(raw_uid, stop, len(made), 0, ()))


def watch(said: Any, uri: str, uid: str) -> None:
    """Poll the number of frames until the number that is sent is reached; send counts and times.

    Frames that are not seen within half a minute after that are never seen.
    """
    run = from_uri(uri, api_key=KEY)["gixi"][uid]

    def look() -> tuple[float, int]:
        try:
            seen = len(run["frames"].base["internal"].read(["seq_num"]))
        except KeyError:
            seen = 0
        return time.monotonic(), seen

    looks = [look()]  # the first loads what a client needs
    said.send("here")
    expected, until = -1, float("inf")
    while looks[-1][1] != expected and time.monotonic() < until:
        if said.poll(POLL_S):
            expected, until = said.recv(), time.monotonic() + LAST_LOOK_S
        looks.append(look())
    said.send(looks)
    run.context.close()


def report(name: str, made: Any, looks: list[tuple[float, int]], cpu: tuple[float, float]) -> None:
    seen_at = np.full(len(made), np.nan)
    before = 0
    for moment, seen in looks:
        seen_at[before:seen] = moment
        before = max(before, seen)
    if unseen := int(np.isnan(seen_at).sum()):
        print(f"{name:6s} {unseen} of {len(made)} frames were never seen by another client")
        return
    lags = seen_at - made
    first, second = np.array_split(lags, 2)
    # Until the last is seen: a writer that stores all at the end is then slow, not undefined.
    rate = len(made) / (seen_at[-1] - made[0])
    writer, server = (1e3 * seconds / len(made) for seconds in cpu)
    print(
        f"{name:6s} {rate:5.1f} frames/s  "
        f"lag median {np.median(lags):.2f} s, 95% {np.quantile(lags, 0.95):.2f} s, "
        f"max {lags.max():.2f} s, second half {np.median(second) - np.median(first):+.2f} s  "
        f"CPU {writer:.1f} (writer) + {server:.1f} (server) ms a frame"
    )


if __name__ == "__main__":
    main()

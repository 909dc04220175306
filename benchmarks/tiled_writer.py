"""Rows per second and lag to another client: our writer beside the stock TiledWriter.

    python benchmarks/tiled_writer.py [--seconds 20] [--rate 100] [--peaks 50]

The producer makes `rate` frames a second with `peaks` peaks each, all four tables, flushed every
0.5 s after the last flush is done; a second client reads `frames` five times a second and notes
how long the oldest frame that it does not see yet has been waiting.
The stock writer gets the same documents with its batch size set to one flush.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from uuid import uuid4

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import tiled_servers
from bluesky_tiled_plugins import TiledWriter
from tiled_servers import columns, descriptor, page, start_document, stop_document

from gixi_bluesky.tiled_adapters.schema import STREAMS
from gixi_bluesky.tiled_adapters.server import embedded_server
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.writer import DerivedRunStore

FLUSH_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--peaks", type=int, default=50)
    options = parser.parse_args()
    tiled_servers.PEAKS_PER_FRAME = options.peaks
    with tempfile.TemporaryDirectory() as folder, embedded_server(folder) as server:
        for name in ("ours", "stock"):
            uid = str(uuid4())
            catalogue = server.catalog("gixi")
            if name == "ours":
                store = DerivedRunStore(catalogue, OutputSettings(), TiledSettings())
                store.open(start_document(uid))
            else:
                store = TiledWriter(
                    catalogue,
                    normalizer=None,
                    batch_size=int(options.rate * options.peaks * FLUSH_S),
                )
                store("start", start_document(uid))
            report(name, store, uid, server.catalog("gixi"), options)


def report(name, store, uid, reader, options) -> None:
    for stream in STREAMS:
        store("descriptor", descriptor(uid, stream))
    made: list[float] = []
    lags: list[float] = []
    ended = threading.Event()
    began = time.monotonic()
    watcher = threading.Thread(target=watch, args=(reader, uid, began, options.rate, lags, ended))
    watcher.start()
    rows = dict.fromkeys(STREAMS, 0)
    while (now := time.monotonic()) - began < options.seconds:
        due = int((now - began) * options.rate)
        frames = range(len(made), due)
        made += [began + frame / options.rate for frame in frames]
        if frames:
            for stream in STREAMS:
                data = columns(stream, frames)
                store("event_page", page(uid, stream, rows[stream] + 1, data))
                rows[stream] += len(data["frame"])
        time.sleep(FLUSH_S)
    stored = time.monotonic() - began
    ended.set()
    watcher.join()
    store("stop", stop_document(uid))
    total = sum(rows.values())
    print(
        f"{name:6s} {len(made) / stored:6.1f} frames/s  {total / stored:7.0f} rows/s  "
        f"lag median {np.median(lags):.2f} s  95% {np.quantile(lags, 0.95):.2f} s  "
        f"max {max(lags):.2f} s"
    )


def watch(reader, uid, began, rate, lags, ended) -> None:
    run = reader[uid]
    while not ended.wait(0.2):
        try:
            seen = len(run["frames"].base["internal"].read(["seq_num"]))
        except KeyError:
            seen = 0
        lags.append(time.monotonic() - (began + seen / rate))


if __name__ == "__main__":
    main()

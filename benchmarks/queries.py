"""Times of queries in a catalogue of many derived runs: python benchmarks/queries.py [RUNS].

The catalogue is filled through its database, which is much faster than writing runs; every
hundredth run holds the phase and the peak that are looked for.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from tiled.structures.core import Spec

from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.schema import q_bin
from gixi_bluesky.tiled_adapters.server.embedded import embedded_server

EVERY = 100
REPEATS = 5
RARE_Q = 1.0605


def metadata(number: int, random: np.random.Generator) -> dict[str, Any]:
    """Return the metadata of a run with 200 peak positions and 5 phases."""
    rare = number % EVERY == 0
    peak_q = sorted(random.uniform(1.1, 3.9, 199).round(5)) + ([RARE_Q] if rare else [])
    names = [f"phase-{k}" for k in range(4)] + (["MAPbBr3"] if rare else ["other"])
    phases = {
        n: {"name": n, "max_probability": 0.9, "n_frames": 10, "onset_frame": 3} for n in names
    }
    uid = str(uuid4())
    gixi = {"raw_uid": f"raw-{number}", "image_step": 1}
    start = {"uid": uid, "time": 1e9 + number, "purpose": "gixi", "gixi": gixi}
    summary = {
        "n_frames": 100,
        "n_peaks": 5000,
        "peak_q": peak_q,
        "q_bins": {q_bin(q): 10 for q in peak_q},
        "phases": phases,
    }
    return {"start": start, "stop": {"exit_status": "success", "time": 2e9, "gixi": summary}}


def fill(catalogue: Any, database: Path, runs: int) -> None:
    """Write one run through Tiled and copy its row."""
    random = np.random.default_rng(1)
    first = metadata(1, random)
    specs = [Spec("GIXIRun"), Spec("BlueskyRun", version="3.0")]
    catalogue.create_container(first["start"]["uid"], metadata=first, specs=specs)
    with sqlite3.connect(database, timeout=60) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(nodes)")]
        same = [name for name in columns if name not in {"id", "key", "metadata"}]
        statement = (
            f"INSERT INTO nodes (key, metadata, {', '.join(same)}) "
            f"SELECT ?, ?, {', '.join(same)} FROM nodes WHERE key = ?"
        )
        made = (metadata(number, random) for number in range(2, runs + 1))
        connection.executemany(
            statement, ((m["start"]["uid"], json.dumps(m), first["start"]["uid"]) for m in made)
        )


def timed(ask: Callable[[], list[Any]], expected: int) -> str:
    """Ask several times; the CPU time is that of client and server, which share this process."""
    seconds, cpu = [], []
    for _ in range(REPEATS):
        began, used = time.perf_counter(), time.process_time()
        found = len(ask())
        seconds.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
        if found != expected:
            raise RuntimeError(f"found {found} runs, expected {expected}")
    return (
        f"median {statistics.median(seconds):.2f} s, max {max(seconds):.2f} s, "
        f"CPU {statistics.median(cpu):.2f} s"
    )


def main(runs: int = 10_000) -> None:
    with tempfile.TemporaryDirectory() as folder, embedded_server(folder) as server:
        catalogue = server.catalog("gixi")
        fill(catalogue, Path(folder) / ".tiled" / "catalog.db", runs)
        rare = runs // EVERY
        print(f"{len(catalogue)} runs, {rare} with the phase and the peak looked for")
        print("runs_for  ", timed(lambda: queries.runs_for(catalogue, "raw-7"), 1))
        print("with_phase", timed(lambda: queries.with_phase(catalogue, "MAPbBr3", 0.8), rare))
        print("with_peak ", timed(lambda: queries.with_peak(catalogue, RARE_Q, 0.002), rare))
        print("unfinished", timed(lambda: queries.unfinished(catalogue), 0))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

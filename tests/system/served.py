"""A Tiled server in a process of its own, killed and started again while a run is analysed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import httpx
import numpy as np
import pytest
from fakes import FAKE, fake_config
from ports import free_port
from raw_runs import Documents, hdf5_run
from tiled.client import from_uri

from gixi_bluesky.callbacks import Analysis
from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.schema import STREAMS
from gixi_bluesky.tiled_adapters.store.spool_folder import spool_files

KEY = "abcdefgh12345678"
FRAMES = 40


class Server:
    """`gixi-bluesky serve` in a process of its own, always at the same address.

    directory: served, and where results go
    options: of the command; default = an embedded server over `directory`
    """

    def __init__(self, directory: Path, *options: str, **environment: str) -> None:
        self.directory = directory
        self.api_key = KEY
        self._options = options or ("--directory", str(directory))
        self._environment = environment
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}/api/v1"
        self.contexts: list[Any] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["serve", *self._options, "--port", str(self.port)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gixi_bluesky", *command],
            env={**os.environ, "TILED_SINGLE_USER_API_KEY": KEY, **self._environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.await_answer()

    def await_answer(self) -> None:
        deadline = time.monotonic() + 300
        headers = {"Authorization": f"Apikey {KEY}"}
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.uri}/metadata/gixi", headers=headers).is_success:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        pytest.fail("the server did not start")

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def catalog(self, name: str) -> Any:
        root = from_uri(self.uri, api_key=KEY, timeout=httpx.Timeout(180))
        self.contexts.append(root.context)
        return root[name]

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        self.kill()


def feed_slowly(analysis: Analysis, documents: Documents) -> None:
    """Feed at 10 frames a second."""
    for name, doc in documents:
        analysis(name, doc)
        if name == "event":
            time.sleep(0.1)


def numbered_run(file: Path) -> Documents:
    """Return a run of FRAMES images whose pixels are the number of the frame, from 1."""
    frames = np.ones((FRAMES, 9, 12), "<u2") * np.arange(1, FRAMES + 1, dtype="<u2")[:, None, None]
    return hdf5_run(file, frames)


def kill_during_run(server: Server, moments: Random, kills: int) -> None:
    """Kill the server some times; it starts only when documents were taken without it."""
    documents = numbered_run(server.directory / f"raw-{moments.random()}.h5")
    catalogue = server.catalog("gixi")
    config = fake_config(server.directory, output={"directory": "results"})
    middle = len(documents) // (kills + 1)
    with Analysis(config, catalogue, factory=FAKE) as analysis:
        for part in range(kills + 1):
            end = len(documents) if part == kills else (part + 1) * middle
            moment = moments.randint(part * middle, end) if part < kills else end
            feed_slowly(analysis, documents[part * middle : moment])
            if part < kills:
                server.kill()
                feed_slowly(analysis, documents[moment:end])
                server.start()
        analysis.drain(120)
    assert_each_once(server, documents[0][1]["uid"])


def stored_frames(catalogue: Any, raw_uid: str) -> int:
    """Return how many rows of `frames` another client sees."""
    for run in queries.runs_for(catalogue, raw_uid):
        if "frames" in run:
            with contextlib.suppress(KeyError):  # the stream is there before its first rows
                return len(run["frames"].read()["frame"])
    return 0


def assert_each_once(server: Server, raw_uid: str) -> None:
    catalogue = server.catalog("gixi")
    (run,) = (run for run in catalogue.values() if run.start["gixi"]["raw_uid"] == raw_uid)
    assert run.stop["gixi"]["n_frames"] == FRAMES
    for stream in STREAMS:
        rows = run[stream].base["internal"].read()
        assert rows["seq_num"].tolist() == list(range(1, FRAMES + 1)), stream
        assert sorted(rows["frame"]) == list(range(FRAMES)), stream
    peaks = run.peaks().sort_values("frame")
    np.testing.assert_allclose(peaks["q"], np.arange(1, FRAMES + 1) / 100)
    for frame in range(FRAMES):
        assert (run.polar_image(frame) == frame + 1).all()
    assert spool_files(server.directory / "results") == []

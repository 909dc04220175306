"""The Tiled server killed in mid-run and started again: each frame is stored once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
from fakes import FAKE, fake_config
from raw_runs import Documents, hdf5_run
from tiled_process import Server

from gixi_bluesky.callbacks import Analysis
from gixi_bluesky.tiled_adapters.schema import STREAMS
from gixi_bluesky.tiled_adapters.spool import spool_files

pytestmark = pytest.mark.system

FRAMES = 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    running.start()
    yield running
    for context in running.contexts:
        context.close()
    running.kill()


def feed_slowly(analysis: Analysis, documents: Documents) -> float:
    """Feed at 10 frames a second and return the longest time that a call took, in s."""
    longest = 0.0
    for name, doc in documents:
        began = time.monotonic()
        analysis(name, doc)
        longest = max(longest, time.monotonic() - began)
        if name == "event":
            time.sleep(0.1)
    return longest


def kill_during_run(server: Server, moments: Random, kills: int) -> None:
    frames = np.ones((FRAMES, 9, 12), "<u2") * np.arange(1, FRAMES + 1, dtype="<u2")[:, None, None]
    documents = hdf5_run(server.folder / f"raw-{moments.random()}.h5", frames)
    catalogue = server.catalogue()
    config = fake_config(server.folder, output={"directory": "results"})
    middle = len(documents) // (kills + 1)
    with Analysis(config, catalogue, factory=FAKE) as analysis:
        for part in range(kills + 1):
            end = None if part == kills else (part + 1) * middle
            assert feed_slowly(analysis, documents[part * middle : end]) < 0.5
            if part < kills:
                time.sleep(moments.uniform(0, 0.5))
                server.kill()
                time.sleep(moments.uniform(0, 1))
                server.start()
        analysis.drain(120)
    assert_each_once(server, documents[0][1]["uid"])


def assert_each_once(server: Server, raw_uid: str) -> None:
    catalogue = server.catalogue()
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
    assert spool_files(server.folder / "results") == []


def test_a_server_killed_in_mid_run_costs_nothing_and_nobody_waits(server: Server) -> None:
    kill_during_run(server, Random(20261122), kills=1)


@pytest.mark.soak
def test_a_hundred_kills_of_the_server(server: Server) -> None:
    moments = Random(20261123)
    for _ in range(50):
        kill_during_run(server, moments, kills=2)

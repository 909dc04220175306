"""Writers killed and put to sleep: the run they leave holds each frame exactly once."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from uuid import uuid4

import h5py
import numpy as np
import pytest
from derived_run_writer import write_run
from tiled_servers import PEAKS_PER_FRAME, columns, image_of

from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET, STREAMS
from gixi_bluesky.tiled_adapters.server import EmbeddedServer, embedded_server

pytestmark = pytest.mark.system

FRAMES = 30
SESSION_S = 2.0
# Forked from a process that has imported everything, so that a writer starts at once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["derived_run_writer"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with embedded_server(tmp_path_factory.mktemp("tiled")) as running:
        yield running


class Writer:
    """A process that writes one derived run and says how far it is."""

    def __init__(self, server: EmbeddedServer, uid: str) -> None:
        self._words, said = PROCESSES.Pipe(duplex=False)
        task = (server.uri, server.api_key, server.directory / "results", uid, FRAMES, SESSION_S)
        self._process = PROCESSES.Process(target=write_run, args=(said, *task))
        self._process.start()
        said.close()

    def wait_for(self, word: str) -> None:
        try:
            while self._words.poll(60):
                if self._words.recv() == word:
                    return
        except EOFError:
            pass
        pytest.fail(f"the writer never said {word!r}")

    def signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def end(self) -> int | None:
        self._process.join(timeout=90)
        self._words.close()
        return self._process.exitcode


def assert_like_undisturbed(server: EmbeddedServer, uid: str) -> None:
    run = server.catalog("gixi")[uid]
    assert run.stop["exit_status"] == "success"
    for stream in STREAMS:
        rows = run[stream].base["internal"].read()
        each = 1 if stream == "frames" else PEAKS_PER_FRAME
        assert sorted(rows["seq_num"]) == list(range(1, FRAMES * each + 1)), stream
        rows = rows.sort_values([k for k in ("frame", "peak", "phase") if k in rows])
        for name, values in columns(stream, range(FRAMES)).items():
            assert list(rows[name]) == values, (stream, name)
    expected = [image_of(frame) for frame in range(FRAMES)]
    np.testing.assert_array_equal(run["images"].base["polar_image"].read(), expected)
    with h5py.File(server.directory / "results" / f"{uid}.nxs", "r") as file:
        np.testing.assert_array_equal(file[IMAGE_DATASET], expected)


def kill_writers(server: EmbeddedServer, moments: random.Random, kills: int) -> None:
    uid = str(uuid4())
    for _ in range(kills):
        writer = Writer(server, uid)
        time.sleep(moments.uniform(0.5, 4.0))
        writer.signal(signal.SIGKILL)
        writer.end()
    last = Writer(server, uid)
    last.wait_for("stored")
    assert last.end() == 0
    assert_like_undisturbed(server, uid)


def test_a_run_whose_writer_was_killed_five_times_holds_each_frame_once(
    server: EmbeddedServer,
) -> None:
    kill_writers(server, random.Random(20261122), kills=5)


@pytest.mark.soak
def test_a_hundred_kills_of_writers(server: EmbeddedServer) -> None:
    moments = random.Random(20261123)
    for _ in range(20):
        kill_writers(server, moments, kills=5)


def test_a_stopped_writer_that_wakes_after_the_takeover_writes_nothing(
    server: EmbeddedServer,
) -> None:
    uid = str(uuid4())
    sleeper = Writer(server, uid)
    sleeper.wait_for("frame 6")
    sleeper.signal(signal.SIGSTOP)
    successor = Writer(server, uid)
    successor.wait_for("open")
    sleeper.signal(signal.SIGCONT)
    sleeper.wait_for("ClaimLostError")
    sleeper.end()
    successor.wait_for("stored")
    assert successor.end() == 0
    assert_like_undisturbed(server, uid)

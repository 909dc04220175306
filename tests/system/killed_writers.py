"""Writers of one derived run in processes of their own, to be killed and put to sleep."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from typing import Any
from uuid import uuid4

import h5py
import numpy as np
import pytest
from derived_run_writer import write_run
from tiled_servers import PEAKS_PER_FRAME, columns, image_of

from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET, STREAMS

FRAMES = 60  # more than the killed writers get done
SESSION_S = 2.0
# Forked from a process that has imported everything, so that a writer starts at once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["derived_run_writer"])


class Writer:
    """A process that writes one derived run and says how far it is.

    server: where it writes, with the attributes of an EmbeddedServer
    """

    def __init__(self, server: Any, uid: str) -> None:
        self._words, said = PROCESSES.Pipe(duplex=False)
        task = (server.uri, server.api_key, server.directory / "results", uid, FRAMES, SESSION_S)
        self._process = PROCESSES.Process(target=write_run, args=(said, *task))
        self._process.start()
        said.close()

    def wait_for(self, word: str) -> None:
        said = "nothing"
        try:
            while self._words.poll(180):
                said = self._words.recv()
                if said == word:
                    return
        except EOFError:
            pass
        pytest.fail(f"the writer never said {word!r}; its last word was {said!r}")

    def signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def end(self) -> int | None:
        self._process.join(timeout=180)
        self._words.close()
        return self._process.exitcode


def assert_like_undisturbed(server: Any, uid: str) -> None:
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


def kill_writers(server: Any, moments: random.Random, kills: int) -> None:
    uid = str(uuid4())
    for _ in range(kills):
        writer = Writer(server, uid)
        if moments.random() < 0.7:  # else it dies while it opens the run
            writer.wait_for("open")
        time.sleep(moments.uniform(0.0, 0.6))
        writer.signal(signal.SIGKILL)
        writer.end()
    last = Writer(server, uid)
    last.wait_for("stored")
    assert last.end() == 0
    assert_like_undisturbed(server, uid)

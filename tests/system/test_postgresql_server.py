"""The documented server for a beamline, with PostgreSQL and Redis that really run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from bluesky_tiled_plugins.streaming import subscribe_to_streams
from databases import running_databases
from killed_writers import kill_writers
from served import Server, kill_during_run
from tiled_servers import (
    PEAKS_PER_FRAME,
    RunWriting,
    columns,
    image_of,
    start_document,
)

from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.schema import STREAMS, q_bin

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "server.yml"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of the example, with our ports and folders in place of its own."""
    folder = tmp_path_factory.mktemp("beamline")
    with running_databases(folder) as databases:
        reported = EXAMPLE.read_text(encoding="utf-8")
        for theirs, ours in {
            "localhost:5432": f"localhost:{databases.postgresql_port}",
            "localhost:6379": f"localhost:{databases.redis_port}",
            "localhost/srv/tiled": f"localhost{folder}",
            "localhost/srv/gixi/results": f"localhost{folder}",
        }.items():
            assert theirs in reported
            reported = reported.replace(theirs, ours)
        (folder / "data").mkdir()
        config = folder / "server.yml"
        config.write_text(reported, encoding="utf-8")
        running = Server(folder, "--config", str(config), PGPASSFILE=str(databases.password_file))
        try:
            running.start()
            yield running
        finally:
            running.close()


def summary(probability: float, q: float) -> dict[str, Any]:
    return {
        "n_frames": 2,
        "phases": {"MAPbBr3": {"name": "MAPbBr3", "max_probability": probability}},
        "peak_q": [q],
        "q_bins": {q_bin(q): 1},
    }


def uids(runs: list[Any]) -> list[str]:
    return [run.start["uid"] for run in runs]


def test_a_run_is_written_read_and_queried_while_it_grows_and_after(server: Server) -> None:
    raw_uid = str(uuid4())
    catalogue = server.catalog("gixi")
    assert queries.has_fast_queries(catalogue)
    writing = RunWriting(catalogue, server.directory, start_document(raw_uid=raw_uid))
    writing.flush([0, 1])
    for probability, tell in ((0.7, writing.store.refresh_live), (0.9, None)):
        if tell is not None:
            tell(summary(probability, 1.234))
        else:
            writing.stop(**summary(probability, 1.234))
        assert uids(queries.with_phase(catalogue, "MAPbBr3", probability)) == [writing.uid]
        assert queries.with_phase(catalogue, "MAPbBr3", probability + 0.01) == []
        assert uids(queries.with_peak(catalogue, 1.23, 0.005)) == [writing.uid]
        assert queries.with_peak(catalogue, 1.23, 0.003) == []
    (run,) = queries.runs_for(catalogue, raw_uid)
    for stream in STREAMS:
        rows = getattr(run, stream)()
        for name, values in columns(stream, [0, 1]).items():
            assert rows[name].tolist() == values
    np.testing.assert_array_equal(run.polar_image(1), image_of(1))
    names = [name for name, _ in run.documents()]
    assert (names[0], names[-1]) == ("start", "stop")


# Tiled's client opens its socket in a way that websockets 17 is giving up.
@pytest.mark.filterwarnings(r"ignore:connect\(\) must be used:DeprecationWarning")
def test_who_listens_sees_rows_through_redis(server: Server) -> None:
    start = start_document()
    seen: Queue[Any] = Queue()

    def take(update: Any) -> None:
        if update.run_uid == start["uid"]:  # what Redis still holds of other runs comes too
            seen.put(update.data())

    streams = {"peaks": ("frame", "q")}
    catalogue = server.catalog("gixi")
    with subscribe_to_streams(catalogue, take, streams=streams, required_specs="GIXIRun"):
        writing = RunWriting(server.catalog("gixi"), server.directory, start)
        for frame in range(3):
            writing.flush([frame])
            rows = seen.get(timeout=180)
            assert rows["frame"].tolist() == [frame] * PEAKS_PER_FRAME
        writing.stop()


def test_a_run_whose_writers_were_killed_holds_each_frame_once(server: Server) -> None:
    kill_writers(server, random.Random(20261126), kills=2)


def test_a_run_goes_on_after_the_server_was_killed(server: Server) -> None:
    kill_during_run(server, random.Random(20261126), kills=1)

"""The Tiled server killed in mid-run and started again: each frame is stored once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from random import Random

import pytest
from fakes import FAKE, fake_config
from raw_runs import feed
from served import Server, assert_each_once, kill_during_run, numbered_run
from soak import soak_kills, soak_steps
from waiting import wait_until

from gixi_bluesky.callbacks import Analysis

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("served"))
    try:
        running.start()
        yield running
    finally:
        running.close()


def test_a_server_killed_three_times_in_mid_run_costs_nothing_and_no_one_waits(
    server: Server,
) -> None:
    kill_during_run(server, Random(20261122), kills=3)


def test_a_server_that_hangs_delays_no_close_and_keeps_no_session_out(server: Server) -> None:
    documents = numbered_run(server.directory / "raw.h5")
    catalogue = server.catalog("gixi")
    config = fake_config(server.directory, output={"directory": "results"})
    half = len(documents) // 2
    with Analysis(config, catalogue, factory=FAKE) as first:
        feed(first, documents[:half])
        wait_until(lambda: first.status()["frames_done"] > 0)
        server.signal(signal.SIGSTOP)
        feed(first, documents[half:-1])
    # The server goes on only when the first session is closed and the second one has begun.
    with Analysis(config, catalogue, factory=FAKE) as second:
        feed(second, documents)
        server.signal(signal.SIGCONT)
        assert second.drain(150)
    assert_each_once(server, documents[0][1]["uid"])


@pytest.mark.soak
def test_a_hundred_kills_of_the_server(server: Server) -> None:
    for kills, moments in soak_steps("server", soak_kills(), each=2):
        kill_during_run(server, moments, kills)

"""The Tiled server killed in mid-run and started again: each frame is stored once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from served import Server, kill_during_run
from soak import soak_kills, soak_steps

pytestmark = pytest.mark.system


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.mark.timeout(600)
def test_a_server_killed_five_times_in_mid_run_costs_nothing_and_no_one_waits(
    server: Server,
) -> None:
    kill_during_run(server, Random(20261122), kills=5)


@pytest.mark.soak
def test_a_hundred_kills_of_the_server(server: Server) -> None:
    for kills, moments in soak_steps("server", soak_kills(), each=2):
        kill_during_run(server, moments, kills)

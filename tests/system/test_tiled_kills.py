"""Writers killed and put to sleep: the run they leave holds each frame exactly once."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from uuid import uuid4

import pytest
from killed_writers import Writer, assert_like_undisturbed, kill_writers
from soak import soak_kills, soak_steps

from gixi_bluesky.tiled_adapters.server.embedded import EmbeddedServer, embedded_server

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with embedded_server(tmp_path_factory.mktemp("tiled")) as running:
        yield running


def test_a_run_whose_writer_was_killed_five_times_holds_each_frame_once(
    server: EmbeddedServer,
) -> None:
    kill_writers(server, random.Random(20261122), kills=5)


@pytest.mark.soak
def test_a_hundred_kills_of_writers(server: EmbeddedServer) -> None:
    for kills, moments in soak_steps("writers", soak_kills(), each=5):
        kill_writers(server, moments, kills)


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

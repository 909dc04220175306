"""Everything is killed in turn while runs go on: each frame is stored once, as if undisturbed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from consumer_process import ConsumerProcess
from kafka_broker import Broker
from kafka_site import Site, assert_whole, tables, wait_for
from served import Server
from soak import soak_round, soak_seeds

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FRAMES = 16
PARTITIONS = 4


class Disturbed(Site):
    """A site whose broker may be killed, too."""

    def __init__(self, broker: Broker, server: Server, folder: Path) -> None:
        super().__init__(broker.bootstrap, server, folder)
        self.broker = broker


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Disturbed]:
    folders = [tmp_path / name for name in ("kafka", "tiled")]
    for folder in folders:
        folder.mkdir()
    server = Server(folders[1])
    with Broker(folders[0]) as broker:
        one = Disturbed(broker, server, tmp_path)
        try:
            server.start()
            one.create(PARTITIONS)
            yield one
        finally:
            one.close()
            server.close()


def test_nothing_is_lost_or_doubled_whatever_is_killed(site: Disturbed) -> None:
    a, b = (site.consumer(name, GIXI_FAKE_SECONDS="0.05") for name in "ab")
    poison = []
    with site.publishing(programs=2, runs=2, frames=FRAMES, period_s=0.5) as beamline:
        for consumer in (a, b):
            consumer.wait_until(lambda beat: len(beat.partitions) == PARTITIONS // 2)
        wait_for(lambda: any((beat := one.beat()) and beat.frames > 2 for one in (a, b)))
        a.kill()
        c = site.consumer("c", GIXI_FAKE_SECONDS="0.05")
        poison += [(1, offset) for offset in site.send(b"poison", b"\xc1", partition=1)]
        c.running()
        site.broker.kill()
        c.wait_until(lambda beat: bool(beat.last_error))
        site.broker.start()
        c.wait_until(lambda beat: len(beat.partitions) > 0)
        before = refusals(b, c)
        site.server.kill()
        poison += [(2, offset) for offset in site.send(None, partition=2)]
        wait_for(lambda: refusals(b, c) > before or all(one.poll() is not None for one in beamline))
        site.server.start()
        b.send(signal.SIGSTOP)
        c.wait_until(lambda beat: len(beat.partitions) == PARTITIONS)
        b.send(signal.SIGCONT)
    site.await_committed(180)
    assert_as_if_undisturbed(site, poison)
    assert [consumer.end() for consumer in (b, c)] == [0, 0]


def refusals(*consumers: ConsumerProcess) -> int:
    """Return how often rows could not be sent to Tiled."""
    return sum(one.log.read_text().count("tiled_refused") for one in consumers)


def assert_as_if_undisturbed(site: Disturbed, poison: list[tuple[int, int]]) -> None:
    disturbed = list(site.uids)
    reference_uid = site.publish(frames=FRAMES)[-1]
    site.await_committed()
    catalogue = site.catalogue()
    reference = tables(assert_whole(catalogue, reference_uid, FRAMES))
    for uid in disturbed:
        found = tables(assert_whole(catalogue, uid, FRAMES))
        for stream, rows in reference.items():
            assert found[stream].equals(rows), (uid, stream)
    letters = site.letters()
    origins = [dict(letter.headers()) for letter in letters]
    assert sorted((int(one["partition"]), int(one["offset"])) for one in origins) == sorted(poison)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", soak_seeds())
def test_a_long_campaign(site: Disturbed, seed: int) -> None:
    """Twelve mishaps of random kinds at random moments, over runs of two engines."""
    with soak_round("kafka", seed):
        disturb(site, Random(seed))


def disturb(site: Disturbed, chance: Random) -> None:
    consumers = [site.consumer(f"first-{n}", GIXI_FAKE_SECONDS="0.05") for n in range(3)]
    poison: list[tuple[int, int]] = []

    def kill() -> None:
        n = chance.randrange(len(consumers))
        consumers[n].kill()
        consumers[n] = site.consumer(f"{time.time()}", GIXI_FAKE_SECONDS="0.05")

    def drain() -> None:
        n = chance.randrange(len(consumers))
        consumers[n].wait_until(lambda _: True)  # it listens to signals
        assert consumers[n].end(signal.SIGUSR1) == 0
        consumers[n] = site.consumer(f"{time.time()}", GIXI_FAKE_SECONDS="0.05")

    def stop() -> None:
        one = chance.choice(consumers)
        one.send(signal.SIGSTOP)
        time.sleep(chance.uniform(0, 20))
        one.send(signal.SIGCONT)

    def restart_broker() -> None:
        site.broker.kill()
        time.sleep(chance.uniform(0, 5))
        site.broker.start()

    def restart_server() -> None:
        site.server.kill()
        time.sleep(chance.uniform(0, 20))
        site.server.start()

    def send_poison() -> None:
        number = chance.randrange(PARTITIONS)
        offsets = site.send(chance.randbytes(20), partition=number)
        poison.extend((number, offset) for offset in offsets)

    mishaps: list[Callable[[], None]] = [
        kill,
        drain,
        stop,
        restart_broker,
        restart_server,
        send_poison,
    ]
    with site.publishing(programs=2, runs=12, frames=FRAMES, period_s=0.5):
        for _ in range(12):
            time.sleep(chance.uniform(0, 5))
            mishap = chance.choice(mishaps)
            print(f"{time.strftime('%T')} {mishap.__name__}")
            mishap()
    site.await_committed(900)
    assert_as_if_undisturbed(site, poison)
    assert [consumer.end() for consumer in consumers] == [0] * len(consumers)

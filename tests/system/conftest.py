"""Servers that several tests share; each test has topics and runs of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from consumer_site import site
from kafka_broker import Broker
from kafka_site import Site
from served import Server
from slurm_cluster import slurm, slurm_cluster

__all__ = ["broker", "kafka_site", "site", "slurm", "slurm_cluster", "tiled_server"]


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture(scope="session")
def tiled_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("tiled"))
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def kafka_site(broker: Broker, tiled_server: Server, tmp_path: Path) -> Iterator[Site]:
    one = Site(broker.bootstrap, tiled_server, tmp_path)
    yield one
    one.close()

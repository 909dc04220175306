"""Servers that several tests share; each test has topics and runs of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka_broker import Broker
from kafka_site import Site
from served import Server
from slurm_cluster import SlurmCluster, slurm_cluster
from slurm_site import SlurmSite

__all__ = ["slurm_cluster"]


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


@pytest.fixture
def slurm(slurm_cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    """The cluster without jobs, before and after the test."""
    slurm_cluster.clear()
    yield slurm_cluster
    slurm_cluster.clear()


@pytest.fixture
def slurm_site(slurm: SlurmCluster, broker: Broker, tiled_server: Server) -> SlurmSite:
    return SlurmSite(broker, tiled_server, slurm)

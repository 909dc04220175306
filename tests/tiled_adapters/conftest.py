"""One Tiled server for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gixi_bluesky.tiled_adapters.server.embedded import EmbeddedServer, embedded_server


@pytest.fixture(scope="session")
def tiled_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with embedded_server(tmp_path_factory.mktemp("tiled")) as server:
        yield server


@pytest.fixture
def catalogue(tiled_server: EmbeddedServer) -> Any:
    return tiled_server.catalog("gixi")

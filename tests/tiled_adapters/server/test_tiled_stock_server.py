"""Queries on a server that knows nothing of us, though it runs in the same process."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiled.client import from_uri
from tiled.server import SimpleTiledServer

from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.client.fast_queries import has_fast_queries
from gixi_bluesky.tiled_adapters.schema import q_bin

pytestmark = pytest.mark.system


def test_a_server_that_has_the_names_but_no_answers_is_asked_the_slow_way(tmp_path: Path) -> None:
    with SimpleTiledServer(directory=tmp_path) as server:
        client = from_uri(server.uri)
        summary = {
            "phases": {"MAPbBr3": {"max_probability": 0.97}},
            "peak_q": [1.059],
            "q_bins": {q_bin(1.059): 3},
        }
        start = {"uid": "one", "time": 1.0, "gixi": {"raw_uid": "raw"}}
        client.create_container(
            "one", metadata={"start": start, "stop": {"exit_status": "success", "gixi": summary}}
        )

        assert has_fast_queries(client), "the case that this test is about"
        assert len(queries.with_phase(client, "MAPbBr3", 0.9)) == 1
        assert queries.with_phase(client, "MAPbBr3", 0.98) == []
        assert len(queries.with_peak(client, 1.06, 0.01)) == 1
        assert queries.with_peak(client, 2.0, 0.01) == []
        client.context.close()

"""A Tiled server that somebody else runs, with our adapter in its configuration."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from fake_pipeline import N_PHI, N_Q
from ports import free_port
from result_files import single_file
from tiled.client import from_uri

from gixi_bluesky.callbacks.derived.registration import register_result
from gixi_bluesky.tiled_adapters import queries

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

KEY = "stockserver1"
ADAPTER = "gixi_bluesky.tiled_adapters.result_files:ResultFileAdapter"


@contextlib.contextmanager
def stock_server(folder: Path) -> Iterator[str]:
    """`tiled serve config`, which knows of us only what its configuration says."""
    port = free_port()
    config = {
        "catalog": {
            "uri": f"sqlite:///{folder / 'catalog.db'}",
            "init_if_not_exists": True,
            "readable_storage": [(folder / "results").as_uri()],
            "adapters_by_mimetype": {"application/x-gixi-hdf5": ADAPTER},
        },
        "uvicorn": {"port": port},
    }
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(config))
    server = subprocess.Popen(
        [sys.executable, "-m", "tiled", "serve", "config", str(path)],
        env={**os.environ, "TILED_SINGLE_USER_API_KEY": KEY},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    uri = f"http://127.0.0.1:{port}/api/v1"
    try:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{uri}/").is_success:
                    break
            time.sleep(0.1)
        yield uri
    finally:
        server.terminate()
        server.wait(120)


def test_it_shows_result_files_and_answers_our_queries(tmp_path: Path) -> None:
    path = single_file(tmp_path / "results")
    with stock_server(tmp_path) as uri:
        root = from_uri(uri, api_key=KEY, timeout=httpx.Timeout(180))
        register_result(path, root)
        (node,) = root["gixi_files"].values()
        assert node["peaks"].read()["q"].tolist() == [1.0, 2.0]
        assert node["polar_image"].shape == (2, N_PHI, N_Q)
        assert node.metadata["configuration"] == {"a": 1}
        assert queries.has_fast_queries(root), "the adapter brings them"
        assert queries.with_phase(root, "MAPbBr3") == []
        root.context.close()

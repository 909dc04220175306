"""The key of the Tiled server is used, and is written nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fakes import FAKE, fake_config
from raw_runs import feed, hdf5_run

from gixi_bluesky.callbacks import Analysis
from gixi_bluesky.log import configure_logging
from gixi_bluesky.tiled_adapters.server.embedded import embedded_server

pytestmark = pytest.mark.system

KEY = "d0n0tt3llth1sk3yt0any0ne"


def test_the_key_is_in_no_document_log_or_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    key_file = tmp_path / "key.txt"
    key_file.write_text(KEY)
    configure_logging("DEBUG")
    frames = np.ones((3, 9, 12), "<u2")
    with embedded_server(tmp_path / "tiled", api_key=KEY) as server:
        config = fake_config(
            server.directory,
            tiled={"uri": server.uri, "api_key_file": str(key_file)},
            output={"directory": "results"},
        )
        with Analysis(config, factory=FAKE) as analysis:
            feed(analysis, hdf5_run(tmp_path / "raw.h5", frames))
            analysis.drain(120)
            reported = repr(analysis.status()) + repr(config)
            run = server.catalog("gixi").values().last()
            documents = json.dumps(list(run.documents()))
            assert run.summary["n_frames"] == len(frames)
        reported += repr(run) + repr(server)
    said = capfd.readouterr()
    assert KEY not in reported
    assert KEY not in documents
    assert KEY not in said.out + said.err + caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != key_file]
    assert {path.suffix for path in files} >= {".nxs", ".db", ".duckdb"}
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path

"""A client that listens sees the peaks of a frame within a second of its flush."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest
from tiled_servers import PEAKS_PER_FRAME, RunWriting, start_document

from gixi_bluesky.tiled_adapters.server.embedded import embedded_server

pytestmark = pytest.mark.system

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "04_live.py"
FRAMES = 10


def test_the_example_shows_peaks_as_they_are_stored(tmp_path: Path) -> None:
    with embedded_server(tmp_path) as server:
        listener = subprocess.Popen(
            [sys.executable, str(EXAMPLE), server.uri, "600"],
            env={**os.environ, "TILED_API_KEY": server.api_key},
            stdout=subprocess.PIPE,
            text=True,
        )
        lines: Queue[str] = Queue()
        assert listener.stdout is not None
        with listener.stdout as reported:
            Thread(target=lambda: [lines.put(x) for x in reported]).start()
            try:
                assert lines.get(timeout=180) == "listening\n"
                writing = RunWriting(server.catalog("gixi"), tmp_path / "results", start_document())
                for frame in range(FRAMES):
                    writing.images([frame])
                    writing.table("peaks", [frame])
                    # They are shown before anything else of the frame is stored.
                    for peak in range(PEAKS_PER_FRAME):
                        line = lines.get(timeout=180)
                        q = 1 + peak / 10
                        assert line.startswith(f"frame {frame}: |q| = {q:.4f} 1/angstrom")
                    writing.table("matches", [frame])
                    writing.table("match_peaks", [frame])
                    writing.table("frames", [frame])
                writing.stop()
            finally:
                listener.kill()
                listener.wait()

"""Commands as a user starts them: real processes, a real server, a folder that grows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from ports import free_port

from gixi_bluesky.processing.structures.cif_files import shipped_cifs

pytestmark = pytest.mark.system

KEY = "abcdefgh12345678"


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "gixi_bluesky", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def finish(*arguments, **environment):
    """Run a command to its end; return its exit status, stdout and stderr."""
    with start(*arguments, **environment) as process:
        out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture
def config_file(tmp_path):
    tree = {
        "geometry": {
            "wavelength_angstrom": 0.6888,
            "distance_mm": 300.0,
            "pixel_size_mm": [1.0, 1.0],
            "beam_center_px": [10.0, 20.0],
        },
        "grid": {"q_max_inv_angstrom": 3.0, "shape": [64, 128]},
        "detector": {"weights": "classical"},
        "matching": {"cif": [str(shipped_cifs()["LaB6"])]},
        "output": {"directory": "results", "flush_s": 0.1},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def write_frame(path: Path, seed: int) -> None:
    frame = np.random.default_rng(seed).poisson(20, (150, 160)).astype(np.int32)
    tifffile.imwrite(path, frame)


def test_a_growing_folder_is_followed_until_ctrl_c(tmp_path, config_file):
    folder = tmp_path / "frames"
    folder.mkdir()
    write_frame(folder / "a.tif", 1)
    reported = []
    with start("process", "--watch", folder, "--config", config_file, "--json") as watching:
        reader = threading.Thread(target=lambda: reported.extend(map(json.loads, watching.stdout)))
        reader.start()
        try:
            wait_for(lambda: len(reported) == 1)
            write_frame(folder / "b.tif", 2)
            (folder / "junk.tif").write_bytes(b"junk")
            wait_for(lambda: len(reported) == 3)
        finally:
            watching.send_signal(signal.SIGINT)
            reader.join(timeout=180)
        assert watching.wait(180) == 1  # one image could not be read
    by_name = {Path(one["image"]).name: one["status"] for one in reported}
    assert by_name == {"a.tif": "ok", "b.tif": "ok", "junk.tif": "unavailable"}
    (finished,) = (tmp_path / "results").glob("*.nxs")
    code, _, err = finish("export", finished.stem, "--csv", "-c", config_file, "--out", tmp_path)
    assert code == 0, err
    rows = (tmp_path / f"{finished.stem}_frames.csv").read_text().splitlines()
    assert len(rows) == 1 + 3


def test_serve_answers_with_the_key_and_checks_out(tmp_path, config_file):
    port = free_port()
    tree = yaml.safe_load(config_file.read_text())
    tree["tiled"] = {"uri": f"http://127.0.0.1:{port}"}
    config_file.write_text(yaml.safe_dump(tree))
    arguments = ("serve", "--directory", tmp_path, "--port", port)
    with start(*arguments, TILED_SINGLE_USER_API_KEY=KEY) as serving:
        try:
            assert any(f"127.0.0.1:{port}" in line for line in serving.stderr)
            # It logs each request; with nobody reading on, it would wait for room at the end.
            threading.Thread(target=serving.stderr.read, daemon=True).start()
            code, out, err = finish("check", "-c", config_file, "--json", TILED_API_KEY=KEY)
            assert code == 0, out + err
            assert KEY not in out + err
            code, out, err = finish("check", "-c", config_file, "--json", TILED_API_KEY="wrong123")
            assert code == 1, out + err
            assert "wrong123" not in out + err
        finally:
            serving.send_signal(signal.SIGINT)
        assert serving.wait(180) in (0, 130)


def wait_for(condition, timeout=180.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)

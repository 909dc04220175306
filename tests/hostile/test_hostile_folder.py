"""A folder that is followed may hold anything; the rest is analysed and Ctrl-C ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import yaml
from fakes import GEOMETRY

from gixi_bluesky.callbacks.images.detector_files import open_image_file
from gixi_bluesky.errors import FrameError


def hostile_folder(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / "pipe.tif")
    (folder / "link.h5").symlink_to(folder / "pipe.tif")
    with h5py.File(folder / "self.h5", "w") as file:
        file.attrs["default"] = "."
        file.create_group("entry").attrs["NX_class"] = "NXentry"
    with h5py.File(folder / "far.h5", "w") as file:
        file["/entry/data/data"] = h5py.ExternalLink("pipe.tif", "/d")
    with h5py.File(folder / "many.h5", "w") as file:
        file.create_dataset("d", (2**40, 64, 64), "u2", chunks=(1, 64, 64))
    (folder / "junk.edf").write_bytes(b"{\n" * 1000)


def test_a_file_that_announces_very_many_images_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "many.h5", "w") as file:
        file.create_dataset("d", (2**40, 64, 64), "u2", chunks=(1, 64, 64))
    with pytest.raises(FrameError, match="at most 100000"):
        open_image_file(tmp_path / "many.h5")


@pytest.mark.server
def test_following_a_hostile_folder_goes_on_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    hostile_folder(tmp_path / "w")
    frame = np.random.default_rng(0).poisson(50, (64, 64)).astype("u2")
    tifffile.imwrite(tmp_path / "w" / "good.tif", frame)
    tree = {
        "geometry": {**GEOMETRY, "pixel_size_mm": [2, 2]},
        "grid": {"q_max_inv_angstrom": 1.5, "shape": [32, 64]},
        "detector": {"weights": "classical"},
        "output": {"directory": "results"},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "gixi_bluesky", "process", "--watch", "w"]
    with subprocess.Popen(
        [*command, "--config", "c.yaml", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        seen = ""
        for line in process.stdout:
            seen += line
            if "good.tif" in line:
                process.send_signal(signal.SIGINT)
                break
        rest, _ = process.communicate(timeout=300)
    assert '"status": "ok"' in seen or '"status":"ok"' in seen
    for name in ("self.h5", "far.h5", "many.h5", "junk.edf"):
        assert name in seen + rest
    assert process.returncode in (0, 1)

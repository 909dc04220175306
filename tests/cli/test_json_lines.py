"""With --json there is nothing but JSON on stdout, whatever libraries print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import fabio
import numpy as np
import pytest

PRINTING = """
import ctypes, sys
import fabio.cbfimage
from gixi_bluesky.cli import main

read = fabio.cbfimage.CbfImage.read

def printing(self, *args, **options):
    print("a library prints")
    ctypes.CDLL(None).puts(b"a C library prints")
    ctypes.CDLL(None).fflush(None)
    return read(self, *args, **options)

fabio.cbfimage.CbfImage.read = printing
main()
"""


@pytest.mark.slow
def test_what_libraries_print_goes_to_stderr(config_file: Path, tmp_path: Path) -> None:
    image = tmp_path / "one.cbf"
    fabio.cbfimage.CbfImage(data=np.ones((300, 320), np.int32)).write(str(image))
    arguments = ["mask", str(image), "--out", str(tmp_path / "mask.npy"), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", PRINTING, *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["frames"] == 1
    assert "a library prints" in done.stderr
    assert "a C library prints" in done.stderr

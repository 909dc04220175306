"""Leaving Python with frames outstanding: they are waited for, or the command for the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # starts processes or networks in most tests

SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from fakes import FAKE, Stores, fake_config
from raw_runs import feed, images, inline_run
from gixi_bluesky.callbacks.analysis import Analysis
config = fake_config(Path({folder!r}), queue={{"exit_wait_s": {wait}, "workers": 1}})
stores = Stores()
analysis = Analysis(config, store=stores, factory=FAKE)
closing = analysis.close
def close(wait=0.0):
    closing(wait)
    print(len(stores.only.table("frames")), flush=True)
analysis.close = close
feed(analysis, inline_run(images(5)))
"""


def left(folder: Path, wait: float, seconds: float) -> subprocess.CompletedProcess[str]:
    path = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    script = folder / "scan.py"
    script.write_text(textwrap.dedent(SCRIPT).format(path=path, folder=str(folder), wait=wait))
    return subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "GIXI_FAKE_SECONDS": str(seconds)},
        capture_output=True,
        text=True,
        check=True,
    )


def test_frames_are_waited_for(tmp_path: Path) -> None:
    done = left(tmp_path, wait=60, seconds=0.1)
    assert "waiting up to 60 s" in done.stderr
    assert "not stored" not in done.stderr
    assert done.stdout.splitlines()[-1] == "5"


def test_after_the_wait_the_command_for_the_rest_is_printed(tmp_path: Path) -> None:
    done = left(tmp_path, wait=0.5, seconds=20)
    assert "not stored" in done.stderr
    assert "gixi-bluesky reprocess TILED_URI" in done.stderr

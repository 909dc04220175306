"""Who may import whom, and what light entrances must not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_imports_keep_to_the_layers_of_the_design():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "statements",
    [
        "import gixi_bluesky",
        "from gixi_bluesky.config import load_config, Config",
        "import gixi_bluesky.tiled_adapters.client.run, gixi_bluesky.tiled_adapters.client.queries",
        "import gixi_bluesky.tiled_adapters.store.writer",
        "import gixi_bluesky.tiled_adapters.server.embedded",
        "from gixi_bluesky.callbacks import subscribe",
        "from gixi_bluesky.cli import app; app(['--help'], standalone_mode=False)",
        "from gixi_bluesky.cli import app; app(['process', '--help'], standalone_mode=False)",
        "from gixi_bluesky.cli import app; app(['weights', 'list'], standalone_mode=False)",
    ],
)
def test_light_entrances_do_not_load_torch(statements):
    program = f"{statements}\nimport sys\nsys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_help_loads_neither_tiled_nor_bluesky():
    program = (
        "from gixi_bluesky.cli import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "import sys\n"
        "heavy = {'tiled', 'bluesky', 'h5py', 'pandas', 'scipy', 'cv2'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_live_view_of_another_server_loads_no_server():
    program = (
        "import gixi_bluesky.web, gixi_bluesky.web.proxy\n"
        "import sys\n"
        "sys.exit('tiled.server' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

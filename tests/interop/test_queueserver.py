"""The start-up script of the documentation, in a real queueserver with a real Redis."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from foreign_environment import ROOT, foreign_environment

pytestmark = pytest.mark.timeout(900)  # packages are installed at the first use

IMAGING = """
import numpy as np
from ophyd import Signal, Device, Component

class Camera(Device):
    image = Component(Signal, value=np.full((64, 64), 7))

camera = Camera("", name="camera")
"""


_PERMISSIONS = """
from pathlib import Path
import bluesky_queueserver
folder = Path(bluesky_queueserver.__file__).parent / "profile_collection_sim"
print(folder / "user_group_permissions.yaml")
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(ready: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
        time.sleep(0.2)
    return found


@pytest.fixture
def manager(tmp_path: Path, config_file: Path) -> Iterator[Callable[..., str]]:
    """A running queueserver with the script of the documentation; call it as `qserver`."""
    redis = shutil.which("redis-server")
    assert redis, "this test needs redis-server"
    commands = foreign_environment("queueserver", "bluesky-queueserver")
    script = (ROOT / "examples" / "queueserver_startup.py").read_text()
    (tmp_path / "startup.py").write_text(script + IMAGING)
    shipped = subprocess.run(
        [commands / "python", "-c", _PERMISSIONS], capture_output=True, text=True, check=True
    )
    shutil.copy(shipped.stdout.strip(), tmp_path)
    ports = [free_port() for _ in range(3)]
    environment = os.environ | {
        "GIXI_CONFIG": str(config_file),
        "PYTHONPATH": str(ROOT),
        "QSERVER_ZMQ_CONTROL_ADDRESS": f"tcp://localhost:{ports[1]}",
    }
    folder = subprocess.Popen(
        [redis, "--port", str(ports[0]), "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    log = (tmp_path / "manager.log").open("w")
    running = subprocess.Popen(
        [
            *(commands / "start-re-manager", "--startup-script", tmp_path / "startup.py"),
            *("--keep-re", "--redis-addr", f"localhost:{ports[0]}"),
            *("--existing-plans-devices", tmp_path / "existing_plans_and_devices.yaml"),
            *("--user-group-permissions", tmp_path / "user_group_permissions.yaml"),
            *("--zmq-control-addr", f"tcp://*:{ports[1]}"),
            *("--zmq-info-addr", f"tcp://*:{ports[2]}"),
        ],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
    )

    def qserver(*arguments: str) -> str:
        done = subprocess.run(
            [commands / "qserver", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr

    try:
        until(lambda: "manager_state" in qserver("status"), 60, "the manager")
        yield qserver
    finally:
        for process in (running, folder):
            process.terminate()
            process.wait(30)
        log.close()
        print((tmp_path / "manager.log").read_text()[-5000:])


def test_a_queued_plan_is_analysed(manager: Callable[..., str], tmp_path: Path) -> None:
    manager("environment", "open")
    until(lambda: "'worker_environment_exists': True" in manager("status"), 120, "environment")
    plan = json.dumps({"name": "count", "args": [["camera"]], "kwargs": {"num": 3}})
    manager("queue", "add", "plan", plan)  # on a busy machine the answer may come too late
    until(lambda: "'name': 'count'" in manager("queue", "get"), 60, "the plan in the queue")
    manager("queue", "start")
    (result,) = until(lambda: list((tmp_path / "results").glob("*.nxs")), 120, "the derived run")
    listed = subprocess.run(
        [
            *(sys.executable, "-m", "gixi_bluesky", "list", "--json"),
            *("--directory", str(tmp_path / "results")),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    run = json.loads(listed.stdout)
    assert run["uid"] == result.stem
    assert run["n_frames"] == 3
    manager("environment", "close")

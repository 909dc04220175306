"""The plans of the documentation, loaded by blueapi from its configuration, in its RunEngine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from foreign_environment import ROOT, foreign_environment

pytestmark = pytest.mark.timeout(900)  # packages are installed at the first use

PROGRAM = """
import sys
import numpy as np
import yaml
from blueapi.config import ApplicationConfig
from blueapi.core import BlueskyContext
from ophyd import Component, Device, Signal

class Camera(Device):
    image = Component(Signal, value=np.full((64, 64), 7))

if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        context = BlueskyContext(ApplicationConfig.model_validate(yaml.safe_load(file)))
    assert "count_analysed" in context.plans
    plan = context.plan_functions["count_analysed"]
    context.run_engine(plan([Camera("", name="camera")], num=3))
    import blueapi_plans
    blueapi_plans.analysis().drain(120)
"""


def test_a_plan_of_blueapi_is_analysed(tmp_path: Path, config_file: Path) -> None:
    python = foreign_environment("blueapi", "blueapi") / "python"
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("## blueapi")[2]
    (tmp_path / "blueapi.yaml").write_text(section.split("```yaml")[1].split("```")[0])
    (tmp_path / "program.py").write_text(PROGRAM)
    paths = os.pathsep.join([str(ROOT / "examples"), str(ROOT)])
    environment = os.environ | {"GIXI_CONFIG": str(config_file), "PYTHONPATH": paths}
    ran = subprocess.run(
        [python, tmp_path / "program.py", tmp_path / "blueapi.yaml"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    (result,) = (tmp_path / "results").glob("*.nxs")
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
    assert (run["uid"], run["n_frames"]) == (result.stem, 3)

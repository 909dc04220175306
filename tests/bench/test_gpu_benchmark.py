"""The benchmark of GPUs runs on a CPU, too, so that it works where there is a GPU at last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


@pytest.mark.slow
def test_the_benchmark_prints_both_chains_and_every_step():
    options = "--device cpu --frames 1 --exposures 1 --weights default --shape 512 512"
    command = [sys.executable, str(SCRIPT), *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "default on cpu (openvino), batches of 1: " in done.stdout
    assert "default on cpu (torch), batches of 8: " in done.stdout
    assert "upload" in done.stdout
    assert "contrast" in done.stdout
    assert "against the CPU: the same peaks, |dq| up to 0.00" in done.stdout

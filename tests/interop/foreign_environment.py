"""Environments with packages of others, kept in .interop/."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What pip says when a package cannot be fetched; other failures are failures of the test.
_NOT_FETCHED = (
    "No matching distribution",
    "Could not find a version",
    "Max retries exceeded",
    "Read timed out",
    "name resolution",
    "ConnectionError",
)


def foreign_environment(name: str, *packages: str, alone: bool = False) -> Path:
    """Return the bin folder of an environment with these packages of PyPI, made at first use.

    alone: whether the packages of this project's environment are left out
    Skips the test where pip cannot fetch a package.
    """
    home = ROOT / ".interop" / name
    ready = home / ".ready"
    if not ready.exists() or ready.read_text() != " ".join(packages):
        venv.create(home, with_pip=True, clear=True)
        if not alone:
            ours = sysconfig.get_paths()["purelib"]
            version = f"python{sys.version_info.major}.{sys.version_info.minor}"
            site = home / "lib" / version / "site-packages"
            (site / "zz_gixi.pth").write_text(f"{ours}\n{ROOT}\n")
        pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
        ran = subprocess.run(
            [*pip, "install", *packages], capture_output=True, text=True, check=False
        )
        if ran.returncode and any(text in ran.stderr for text in _NOT_FETCHED):
            pytest.skip(f"pip cannot fetch {' '.join(packages)}: {ran.stderr.strip()[-300:]}")
        assert ran.returncode == 0, ran.stderr[-3000:]
        ready.write_text(" ".join(packages))
    return home / "bin"

"""Debian packages that real servers in the tests come from, installed when root."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

# Daemons are not on the path of people who are not root.
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def program(name: str) -> str | None:
    """Return where a program is."""
    return shutil.which(name, path=_PATH)


def require_programs(names: Sequence[str], packages: Sequence[str]) -> None:
    """Install `packages` if a program is missing; skip the test, with the reason, if we cannot."""
    if all(map(program, names)):
        return
    missing = ", ".join(name for name in names if not program(name))
    if os.geteuid() != 0 or not program("apt-get"):
        pytest.skip(f"no {missing}; as root, or by hand: apt-get install {' '.join(packages)}")
    # Test processes that run side by side do not install at once.
    with (Path(tempfile.gettempdir()) / "gixi-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if all(map(program, names)):
            return
        _apt("update")  # what it cannot do, the next may do without
        told = _apt("install", "--no-install-recommends", *packages)
    if told:
        pytest.skip(f"no {missing}, and apt-get could not install it: {told}")


def _apt(*arguments: str) -> str:
    """Return what apt-get complained about, nothing when it did its work."""
    done = subprocess.run(
        ["apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=120", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    return done.stderr[-500:] or f"status {done.returncode}" if done.returncode else ""

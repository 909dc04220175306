"""Programs that Debian packages bring; installed where the tests may, else asked for."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def require_program(program: str, package: str, path: str | None = None) -> str:
    """Return where a program is, with its package installed if need be and we are root.

    path: folders to look in besides those of PATH
    """
    if (found := _found(program, path)) is not None:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        install(package)
        if (found := _found(program, path)) is not None:
            return found
    pytest.skip(f"there is no {program}; install the Debian package {package}")


def install(package: str) -> None:
    """Install a package; one process at a time, since tests run side by side."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with (Path(tempfile.gettempdir()) / "gixi-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(
                ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                check=False,
                capture_output=True,
            )


def _found(program: str, path: str | None) -> str | None:
    return shutil.which(program) or (shutil.which(program, path=path) if path else None)

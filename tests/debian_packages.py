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

    path: folders to look in besides PATH; a pattern of pathlib is not meant
    """
    if (found := _found(program, path)) is not None:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        # Tests that run side by side do not install at once.
        with (Path(tempfile.gettempdir()) / "gixi-apt.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _found(program, path) is None:
                _install(package)
        if (found := _found(program, path)) is not None:
            return found
    pytest.skip(f"there is no {program}; install the Debian package {package}")


def _install(package: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-qq", "-o", "DPkg::Lock::Timeout=120"]
    for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
        subprocess.run(
            ["apt-get", *options, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
            capture_output=True,
        )


def _found(program: str, path: str | None) -> str | None:
    return shutil.which(program) or (shutil.which(program, path=path) if path else None)

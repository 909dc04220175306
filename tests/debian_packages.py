"""Programs that Debian packages bring; installed where the tests may, else asked for."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def require_program(program: str, package: str, path: str | None = None) -> str:
    """Return where a program is, with its package installed if need be and we are root.

    path: folders to look in besides PATH; a pattern of pathlib is not meant
    """
    if (found := _found(program, path)) is not None:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(
                ["apt-get", "-qq", *command], env=environment, check=False, capture_output=True
            )
        if (found := _found(program, path)) is not None:
            return found
    pytest.skip(f"there is no {program}; install the Debian package {package}")


def _found(program: str, path: str | None) -> str | None:
    return shutil.which(program) or (shutil.which(program, path=path) if path else None)

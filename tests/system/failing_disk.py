"""A small file system that is filled and frozen under a running analysis."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MIB = 1 << 20


class Disk:
    """A file system of 64 MiB of its own, mounted at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no byte free."""
        with self._ballast.open("ab", buffering=0) as file:
            for block in (_MIB, 4096):
                try:
                    while True:
                        file.write(b"x" * block)
                except OSError:
                    continue

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let every write hang until `thaw`."""
        subprocess.run(["fsfreeze", "-f", str(self.folder)], check=True)

    def thaw(self) -> None:
        """Let writes go on."""
        subprocess.run(["fsfreeze", "-u", str(self.folder)], check=False, capture_output=True)


@contextmanager
def mounted(folder: Path) -> Iterator[Disk]:
    """Mount an ext4 file system at `folder`; skip the test where that is not allowed."""
    folder.mkdir()
    image = folder.with_suffix(".img")
    image.touch()
    os.truncate(image, 64 * _MIB)
    for command in (
        ["mkfs.ext4", "-q", str(image)],
        ["mount", "-o", "loop", str(image), str(folder)],
    ):
        try:
            refused = subprocess.run(command, capture_output=True, check=False).returncode
        except FileNotFoundError:
            refused = 1
        if refused:
            pytest.skip("needs root and e2fsprogs to mount a file system")
    disk = Disk(folder)
    try:
        yield disk
    finally:
        disk.thaw()
        for _ in range(20):
            if not subprocess.run(["umount", str(folder)], check=False).returncode:
                break
            time.sleep(0.5)
        else:
            subprocess.run(["umount", "-l", str(folder)], check=False)

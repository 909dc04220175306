"""Names in documents become paths here, and only below the roots."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.errors import RefusedPathError


def test_uris_and_paths_mean_the_same(tmp_path: Path) -> None:
    access = FileAccess((), {})
    wanted = (tmp_path / "a b.h5").resolve()
    for name in (
        str(wanted),
        f"file://localhost{tmp_path}/a%20b.h5",
        f"file://{tmp_path}/a%20b.h5",
    ):
        assert access.locate(name) == wanted


def test_the_longest_prefix_is_mapped_at_folder_borders(tmp_path: Path) -> None:
    access = FileAccess((), {"/beamline": "/gpfs", "/beamline/raw": str(tmp_path)})
    assert access.locate("/beamline/raw/x.h5") == tmp_path.resolve() / "x.h5"
    assert access.locate("file://host/beamline/y.h5") == Path("/gpfs/y.h5")
    assert access.locate("/beamline2/y.h5") == Path("/beamline2/y.h5")


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../outside.h5",
        "root/../../x",
        "http://host/x.h5",
        "file:///etc/%2e%2e/etc/x",
    ],
)
def test_what_lies_outside_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    access = FileAccess((root,), {})
    with pytest.raises(RefusedPathError):
        access.locate(name if "://" in name or name.startswith("/") else f"{root}/{name}")


def test_a_link_out_of_the_root_is_refused_and_one_to_a_root_is_not(tmp_path: Path) -> None:
    real, other = tmp_path / "real", tmp_path / "other"
    real.mkdir()
    other.mkdir()
    (real / "out").symlink_to(other)
    (tmp_path / "alias").symlink_to(real)
    access = FileAccess((real,), {})
    assert access.locate(str(tmp_path / "alias" / "a.h5")) == real / "a.h5"
    with pytest.raises(RefusedPathError, match="outside"):
        access.locate(str(real / "out" / "a.h5"))


def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    access = FileAccess((), {})
    for name in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(RefusedPathError, match="pipe or a device"):
            access.locate(str(name))


def test_names_that_are_no_paths() -> None:
    with pytest.raises(RefusedPathError):
        FileAccess((), {}).locate("/a\0b")

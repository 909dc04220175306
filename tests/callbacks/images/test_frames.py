"""Every way in which a frame can lie in a file, read back bit by bit."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import fabio
import h5py
import numpy as np
import pytest
import tifffile
from raw_runs import SHAPE, images, write_hdf5

from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.locations import (
    FabioImage,
    FrameReader,
    Hdf5Image,
    InlineImage,
    NpyImage,
    TiffImage,
    Unreadable,
)
from gixi_bluesky.errors import FrameError, RefusedPathError, UnavailableError

DATA = "/entry/data/data"


def reader(*roots: Path, **root_map: str) -> FrameReader:
    return FrameReader(FileAccess(tuple(root.resolve() for root in roots), root_map))


def stack_image(path: Path, event: int, image: int = 0, stack: tuple[int, ...] = ()) -> Hdf5Image:
    return Hdf5Image(str(path), DATA, event, image, stack, SHAPE)


def test_a_flat_file_is_read_by_event(tmp_path: Path) -> None:
    path, frames = tmp_path / "a.h5", images(5)
    write_hdf5(path, frames)
    for event in range(5):
        np.testing.assert_array_equal(reader().read(stack_image(path, event)), frames[event])
        found = reader().read(stack_image(path, event, stack=(1,)))
        np.testing.assert_array_equal(found, frames[event])


@pytest.mark.parametrize("layout", ["flat", "per event"])
def test_several_images_an_event_are_found_in_both_layouts(tmp_path: Path, layout: str) -> None:
    frames = images(12)
    stored = frames if layout == "flat" else frames.reshape(3, 4, *SHAPE)
    path = write_hdf5(tmp_path / "a.h5", stored)
    for event in range(3):
        for image in range(4):
            found = reader().read(stack_image(path, event, image, (4,)))
            np.testing.assert_array_equal(found, frames[4 * event + image])


def test_a_single_image_without_an_event_axis(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file[DATA] = images(1)[0]
    np.testing.assert_array_equal(reader().read(stack_image(path, 0)), images(1)[0])
    with pytest.raises(FrameError, match="shape"):
        reader().read(stack_image(path, 1))


def test_a_file_is_read_while_it_is_written(tmp_path: Path) -> None:
    path, frames = tmp_path / "a.h5", images(3)
    with h5py.File(path, "w", libver="latest") as file:
        dataset = file.create_dataset(
            DATA, (0, *SHAPE), "<u2", maxshape=(None, *SHAPE), chunks=(1, *SHAPE)
        )
        file.swmr_mode = True

        def write_later() -> None:
            time.sleep(0.15)
            dataset.resize(3, axis=0)
            dataset[:] = frames
            dataset.flush()

        with pytest.raises(UnavailableError, match="row 2 is not there"):
            reader().read(stack_image(path, 2))
        writer = threading.Thread(target=write_later)
        writer.start()
        found = reader().read(stack_image(path, 2), time.monotonic() + 60)
        writer.join()
    np.testing.assert_array_equal(found, frames[2])


def test_waiting_for_a_file_is_bounded(tmp_path: Path) -> None:
    deadline = time.monotonic() + 0.2
    with pytest.raises(UnavailableError, match="not there"):
        reader().read(stack_image(tmp_path / "never.h5", 0), deadline)
    assert time.monotonic() >= deadline


def test_another_size_than_announced_is_refused(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", images(1, (5, 5)))
    with pytest.raises(FrameError, match=r"expected images of \(9, 12\)"):
        reader().read(stack_image(path, 0))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_pages(tmp_path: Path, compression: Any) -> None:
    path, frames = tmp_path / "a.tif", images(3)
    tifffile.imwrite(path, frames, photometric="minisblack", compression=compression)
    for page in range(3):
        found = reader().read(TiffImage(str(path), page, SHAPE))
        np.testing.assert_array_equal(found, frames[page])
    with pytest.raises(UnavailableError):
        reader().read(TiffImage(str(path), 3))
    with pytest.raises(FrameError, match="expected"):
        reader().read(TiffImage(str(path), 0, (3, 3)))


def test_a_half_written_tiff_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, images(1)[0])
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UnavailableError):
        reader().read(TiffImage(str(path)))


def test_numpy_files_and_stacks(tmp_path: Path) -> None:
    frames = images(3)
    np.save(tmp_path / "one.npy", frames[1])
    np.save(tmp_path / "all.npy", frames)
    np.testing.assert_array_equal(reader().read(NpyImage(str(tmp_path / "one.npy"))), frames[1])
    found = reader().read(NpyImage(str(tmp_path / "all.npy"), 2))
    np.testing.assert_array_equal(found, frames[2])
    with pytest.raises(FrameError, match="holds 3"):
        reader().read(NpyImage(str(tmp_path / "all.npy"), 3))


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UnavailableError, match="no readable NumPy"):
        reader().read(NpyImage(str(tmp_path / "bad.npy")))


def test_edf_through_fabio_but_no_hdf5_in_disguise(tmp_path: Path) -> None:
    frame = images(2)[1]
    fabio.edfimage.EdfImage(data=frame).write(str(tmp_path / "a.edf"))
    np.testing.assert_array_equal(reader().read(FabioImage(str(tmp_path / "a.edf"))), frame)
    disguised = write_hdf5(tmp_path / "b.edf", images(1))
    with pytest.raises(FrameError, match="HDF5"):
        reader().read(FabioImage(str(disguised)))


@pytest.mark.parametrize(
    "array", [np.zeros(5), np.zeros((3, 4, 5)), np.zeros((9, 12), complex), np.full((9, 12), "x")]
)
def test_only_images_of_real_numbers_pass(array: np.ndarray) -> None:
    with pytest.raises(FrameError, match="expected a 2-D image"):
        reader().read(InlineImage(array))


def test_what_is_known_to_be_unreadable_says_why() -> None:
    with pytest.raises(UnavailableError, match="no reader"):
        reader().read(Unreadable("unavailable", "no reader for this"))


@pytest.fixture
def fenced(tmp_path: Path) -> tuple[Path, Path]:
    """A root, and a file outside it that must not be read."""
    root = tmp_path / "root"
    root.mkdir()
    return root, write_hdf5(tmp_path / "secret.h5", images(2))


def linked_out(root: Path, secret: Path, how: str) -> Path:
    """Write a file below the root that leads to the secret one."""
    path = root / "a.h5"
    if how == "symbolic link":
        path.symlink_to(secret)
        return path
    with h5py.File(path, "w", libver="latest") as file:
        if how == "external link":
            file[DATA] = h5py.ExternalLink(str(secret), DATA)
        elif how == "relative external link":
            file[DATA] = h5py.ExternalLink("../secret.h5", DATA)
        elif how == "external link to a group":
            file["/entry"] = h5py.ExternalLink(str(secret), "/entry")
        elif how == "soft link through an external one":
            file["/far"] = h5py.ExternalLink(str(secret), "/")
            file[DATA] = h5py.SoftLink("/far/entry/data/data")
        elif how in {"virtual dataset", "nested virtual dataset"}:
            layout = h5py.VirtualLayout((2, *SHAPE), "<u2")
            layout[:] = h5py.VirtualSource(str(secret), DATA, (2, *SHAPE))
            file.create_virtual_dataset(DATA, layout)
        else:
            file.create_dataset(
                DATA, (2, *SHAPE), "<u2", external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
            )
    if how == "nested virtual dataset":
        path.rename(root / "inner.h5")
        with h5py.File(path, "w", libver="latest") as file:
            layout = h5py.VirtualLayout((2, *SHAPE), "<u2")
            layout[:] = h5py.VirtualSource(str(root / "inner.h5"), DATA, (2, *SHAPE))
            file.create_virtual_dataset(DATA, layout)
    return path


@pytest.mark.parametrize(
    "how",
    [
        "symbolic link",
        "external link",
        "relative external link",
        "external link to a group",
        "soft link through an external one",
        "virtual dataset",
        "nested virtual dataset",
        "external storage",
    ],
)
def test_nothing_in_a_file_leads_out_of_the_roots(fenced: tuple[Path, Path], how: str) -> None:
    root, secret = fenced
    path = linked_out(root, secret, how)
    with pytest.raises(RefusedPathError, match=r"outside the roots|external storage"):
        reader(root).read(stack_image(path, 0))
    with pytest.raises(RefusedPathError):  # and not the second time either
        reader(root).read(stack_image(path, 0))


@pytest.mark.parametrize("how", ["external link", "virtual dataset", "nested virtual dataset"])
def test_links_that_stay_inside_are_followed(tmp_path: Path, how: str) -> None:
    inside = write_hdf5(tmp_path / "inside.h5", images(2))
    path = linked_out(tmp_path, inside, how)
    np.testing.assert_array_equal(reader(tmp_path).read(stack_image(path, 1)), images(2)[1])


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["/a"] = h5py.SoftLink("/b")
        file["/b"] = h5py.SoftLink("/a")
    with pytest.raises(RefusedPathError, match="circle"):
        reader(tmp_path).read(Hdf5Image(str(path), "/a", 0))


def test_a_group_or_a_missing_dataset(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", images(1))
    with pytest.raises(FrameError, match="group"):
        reader().read(Hdf5Image(str(path), "/entry", 0))
    with pytest.raises(UnavailableError, match="has no dataset"):
        reader().read(Hdf5Image(str(path), "/entry/other", 0))


def test_huge_images_are_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(DATA, (1, 100_000, 100_000), "<f8", chunks=(1, 10, 10))
    with pytest.raises(FrameError, match="at most"):
        reader().read(Hdf5Image(str(path), DATA, 0))

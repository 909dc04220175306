"""Image files of every format: counted, found and read the same."""

from __future__ import annotations

import bz2
import gzip

import fabio
import h5py
import numpy as np
import pytest
import tifffile

from gixi_bluesky.callbacks.images import readers
from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.detector_files import open_image_file, open_named
from gixi_bluesky.callbacks.images.locations import FrameReader
from gixi_bluesky.errors import FrameError, UnavailableError

STACK = np.arange(3 * 5 * 7, dtype=np.int32).reshape(3, 5, 7)


@pytest.fixture
def read():
    """Return the images that a name means, by label."""
    reader = FrameReader(FileAccess((), {}))
    return lambda name: {
        label: reader.read(reference) for label, reference in open_named(str(name)).references()
    }


def write_stack(path):
    match path.suffix:
        case ".tif" | ".TIFF":
            tifffile.imwrite(path, STACK, photometric="minisblack")
        case ".npy":
            np.save(path, STACK)
        case ".edf":
            file = fabio.edfimage.EdfImage(STACK[0])
            for image in STACK[1:]:
                file.append_frame(data=image)
            file.write(str(path))
        case _:
            with h5py.File(path, "w") as file:
                file["/entry/data/data"] = STACK


@pytest.mark.parametrize("name", ["a.tif", "a.TIFF", "a.npy", "a.edf", "a.h5", "a.nxs"])
def test_every_image_of_a_file_is_read(tmp_path, read, name):
    path = tmp_path / name
    write_stack(path)
    found = read(path)
    assert list(found) == [f"{path}::{i}" for i in range(3)]
    for image, expected in zip(found.values(), STACK, strict=True):
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("name", ["a.tif", "a.h5", "a.edf"])
def test_one_image_can_be_chosen(tmp_path, read, name):
    path = tmp_path / name
    write_stack(path)
    (image,) = read(f"{path}::2").values()
    np.testing.assert_array_equal(image, STACK[2])
    with pytest.raises(UnavailableError, match="holds 3 images; got number 3"):
        read(f"{path}::3")


def test_a_single_image_has_the_plain_label(tmp_path, read):
    path = tmp_path / "one.cbf"
    fabio.cbfimage.CbfImage(STACK[1]).write(str(path))
    found = read(path)
    assert list(found) == [str(path)]
    np.testing.assert_array_equal(found[str(path)], STACK[1])


def test_a_compression_that_tifffile_cannot_decode_goes_through_fabio(tmp_path, read):
    from PIL import Image

    path = tmp_path / "lzw.tif"
    Image.fromarray(STACK[1]).save(path, compression="tiff_lzw")
    np.testing.assert_array_equal(read(path)[str(path)], STACK[1])


def test_the_dataset_can_be_named(tmp_path, read):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["/entry/data/data"] = STACK
        file["/dark"] = STACK[0] + 5
    found = read(f"{path}::/dark")
    np.testing.assert_array_equal(found[f"{path}::/dark"], STACK[0] + 5)


def test_a_nexus_default_goes_before_size(tmp_path):
    path = tmp_path / "a.nxs"
    with h5py.File(path, "w") as file:
        file["/big"] = np.zeros((9, 50, 50))
        file["/scan/plot/counts"] = STACK
        file.attrs["default"] = "scan"
        file["/scan"].attrs["default"] = "plot"
        file["/scan/plot"].attrs["signal"] = "counts"
    assert open_image_file(path).dataset == "/scan/plot/counts"


def test_a_mask_is_not_taken_for_images(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["/a/mask"] = STACK[0]
        file["/b/frames"] = STACK
        file["/table"] = np.zeros(1000)
    assert open_image_file(path).dataset == "/b/frames"


@pytest.mark.parametrize("name", ["absent.tif", "folder.tif"])
def test_what_is_no_file_is_unavailable(tmp_path, name):
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(UnavailableError, match="is not there, or is no file"):
        open_image_file(tmp_path / name)


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".npy", ".edf", ".cbf", ".xyz"])
def test_junk_is_unavailable(tmp_path, suffix):
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(b"this is no image" * 100)
    with pytest.raises(UnavailableError, match="cannot be read as an image file"):
        open_image_file(path)


def test_a_pickle_is_never_loaded(tmp_path):
    path = tmp_path / "evil.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UnavailableError, match="cannot be read"):
        open_image_file(path)


def test_an_hdf5_file_without_images_says_how_to_name_one(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(5)
    with pytest.raises(FrameError, match="FILE::/path/to/dataset"):
        open_image_file(path)


def test_a_colour_picture_is_no_frame(tmp_path):
    path = tmp_path / "photo.tif"
    tifffile.imwrite(path, np.zeros((5, 7, 3), np.uint8), photometric="rgb")
    with pytest.raises(FrameError, match=r"expected \(rows, columns\)"):
        open_image_file(path)


def test_an_imagej_stack_with_one_directory_is_read_whole(tmp_path, read):
    path = tmp_path / "imagej.tif"
    stack = STACK.astype(np.uint16)
    tifffile.imwrite(path, stack, imagej=True)
    with tifffile.TiffFile(path) as file:  # ImageJ itself writes no further directories
        offset = file.pages.first.offset
        entries = file.pages.first.tags
    data = bytearray(path.read_bytes())
    after = offset + 2 + 12 * len(entries)
    data[after : after + 4] = bytes(4)
    path.write_bytes(data)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == 1
    np.testing.assert_array_equal(np.stack(list(read(path).values())), stack)


@pytest.mark.parametrize("pack", [gzip, bz2])
def test_compressed_files_are_read(tmp_path, read, pack):
    plain = tmp_path / "one.cbf"
    fabio.cbfimage.CbfImage(STACK[1]).write(str(plain))
    path = tmp_path / f"one.cbf.{'gz' if pack is gzip else 'bz2'}"
    path.write_bytes(pack.compress(plain.read_bytes()))
    np.testing.assert_array_equal(read(path)[str(path)], STACK[1])


def test_a_compressed_file_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_MAX_IMAGE_BYTES", 10_000_000)
    path = tmp_path / "bomb.cbf.gz"
    path.write_bytes(gzip.compress(bytes(20_000_000)))
    with pytest.raises(FrameError, match="at most 10000000 are read"):
        open_image_file(path)

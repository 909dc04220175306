"""Which pixels are data, and which mask files are understood."""

from __future__ import annotations

from pathlib import Path

import fabio
import h5py
import numpy as np
import pytest
import tifffile

from gixi_bluesky.errors import FrameError, GeometryError
from gixi_bluesky.processing.pixels.masks import (
    invalid_pixels,
    load_mask,
    mask_warning,
    require_image,
)
from gixi_bluesky.processing.settings import MaskFile

MASK = np.zeros((4, 5), np.uint8)
MASK[1, 2] = 1
MASK[3, 4] = 255


def write(path: Path) -> Path:
    match path.suffix:
        case ".npy":
            np.save(path, MASK)
        case ".edf":
            fabio.edfimage.edfimage(data=MASK).write(str(path))
        case ".tif":
            tifffile.imwrite(path, MASK)
        case _:
            with h5py.File(path, "w") as file:
                file["entry/mask"] = MASK
                file["entry/distance"] = 0.2
    return path


@pytest.mark.parametrize("name", ["mask.npy", "mask.edf", "mask.tif", "mask.h5"])
def test_a_mask_of_any_format_is_true_where_it_is_not_zero(tmp_path: Path, name: str) -> None:
    mask = load_mask(write(tmp_path / name), (4, 5))
    assert mask.dtype == bool
    np.testing.assert_array_equal(np.argwhere(mask), [[1, 2], [3, 4]])


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match=r"has shape \(4, 5\); expected \(5, 4\)"):
        load_mask(write(tmp_path / "mask.npy"), (5, 4))


@pytest.mark.parametrize("name", ["none.npy", "none.edf", "none.h5"])
def test_a_mask_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(GeometryError, match="cannot read the mask"):
        load_mask(tmp_path / name, (4, 5))


def test_what_is_no_mask_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mask.edf").write_bytes(b"not an image")
    np.save(tmp_path / "words.npy", np.full((4, 5), "no"))
    np.save(tmp_path / "objects.npy", np.full((4, 5), None), allow_pickle=True)
    for name in ("mask.edf", "words.npy", "objects.npy"):
        with pytest.raises(GeometryError, match="the mask"):
            load_mask(tmp_path / name, (4, 5))


def test_an_hdf5_file_with_two_images_is_ambiguous(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.h5")
    with h5py.File(path, "a") as file:
        file["flat"] = MASK
    with pytest.raises(GeometryError, match="2 2-D datasets"):
        load_mask(path, (4, 5))


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64"])
def test_integer_frames_mark_no_data_by_negatives_and_the_maximum(dtype: str) -> None:
    frame = np.array([[0, 5, -1], [-2, np.iinfo(dtype).max, 7]], dtype)
    np.testing.assert_array_equal(
        ~invalid_pixels(frame), [[True, True, False], [False, False, True]]
    )


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_unsigned_frames_mark_no_data_by_the_maximum(dtype: str) -> None:
    frame = np.array([[0, 5, np.iinfo(dtype).max]], dtype)
    np.testing.assert_array_equal(~invalid_pixels(frame), [[True, True, False]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float_frames_keep_their_negatives(dtype: str) -> None:
    frame = np.array([[-3.5, np.nan, np.inf, -np.inf, -10.0, 4.0]], dtype)
    np.testing.assert_array_equal(
        ~invalid_pixels(frame, dummy=(-10.0,)), [[True, False, False, False, False, True]]
    )


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros(5), r"shape \(5,\); expected one image"),
        (np.zeros((1, 4, 5)), "expected one image"),
        (np.zeros((0, 5)), "expected one image"),
        (np.zeros((4, 5), complex), "complex128"),
        (np.zeros((4, 5), object), "object"),
        (np.zeros((4, 5), bool), "bool"),
    ],
)
def test_what_is_no_frame_is_refused(frame: np.ndarray, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        require_image(frame)


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
def test_a_tiff_of_one_bit_is_read_as_it_is_stored(tmp_path: Path, photometric: str) -> None:
    tifffile.imwrite(tmp_path / "mask.tif", MASK != 0, photometric=photometric)
    np.testing.assert_array_equal(load_mask(tmp_path / "mask.tif", (4, 5)), MASK != 0)


@pytest.mark.parametrize("compression", [None, "group4"])
def test_a_tiff_of_one_bit_that_pillow_wrote_is_read(
    tmp_path: Path, compression: str | None
) -> None:
    from PIL import Image

    Image.fromarray(MASK != 0).save(tmp_path / "mask.tif", compression=compression)
    np.testing.assert_array_equal(load_mask(tmp_path / "mask.tif", (4, 5)), MASK != 0)


def test_good_pixels_may_be_the_ones_that_are_not_zero(tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", MASK == 0)
    named = MaskFile(file=tmp_path / "good.npy", good=1)
    np.testing.assert_array_equal(load_mask(named, (4, 5)), MASK != 0)


def test_a_dataset_of_an_hdf5_file_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.h5")
    with h5py.File(path, "a") as file:
        file["flat"] = MASK + 1.0
    np.testing.assert_array_equal(load_mask(f"{path}::/entry/mask", (4, 5)), MASK != 0)
    with pytest.raises(GeometryError, match="has no dataset /entry/other"):
        load_mask(f"{path}::/entry/other", (4, 5))
    with pytest.raises(GeometryError, match="a dataset /x is named"):
        load_mask(f"{write(tmp_path / 'mask.npy')}::/x", (4, 5))


def test_a_mask_of_the_whole_detector_is_cut_to_its_region(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.npy")
    cut = load_mask(path, (3, 3), (1, 2))
    np.testing.assert_array_equal(cut, MASK[1:4, 2:5] != 0)
    with pytest.raises(GeometryError, match="expected"):
        load_mask(path, (3, 3), (2, 2))


def test_a_mask_of_more_than_half_is_doubted() -> None:
    assert mask_warning(MASK != 0) is None
    assert "90.0% of the pixels" in str(mask_warning(MASK == 0))
    assert "good: 1" in str(mask_warning(MASK == 0))

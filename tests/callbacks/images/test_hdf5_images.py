"""The images of HDF5 files as detectors, beamlines and Dectris write them, and nothing else."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.detector_files import open_image_file, open_named
from gixi_bluesky.callbacks.images.hdf5_candidates import AbsentFilesError, is_calibration
from gixi_bluesky.callbacks.images.locations import FrameReader
from gixi_bluesky.errors import FrameError, RefusedPathError

STACK = np.arange(5 * 20 * 30, dtype=np.uint32).reshape(5, 20, 30)
LARGE = np.ones((90, 90), np.float32)  # larger than all images together


def write_eiger(folder, *, files=(2, 2, 1), missing=(), at="/entry/data"):
    """Write a master file as Dectris does: images by external links, calibrations inside."""
    with h5py.File(folder / "s_master.h5", "w") as file:
        first = 0
        for number, n in enumerate(files, start=1):
            name = f"s_data_{number:06d}.h5"
            file[f"{at}/data_{number:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
            if number not in missing:
                with h5py.File(folder / name, "w") as data:
                    data["/entry/data/data"] = STACK[first : first + n]
            first += n
        detector = file.create_group("/entry/instrument/detector")
        detector["detectorSpecific/flatfield"] = LARGE
        detector["detectorSpecific/pixel_mask"] = LARGE.astype("u4")
        detector["pixel_mask"] = h5py.SoftLink("detectorSpecific/pixel_mask")
        detector["bit_depth_image"] = 32
    return folder / "s_master.h5"


def images(path, access=None):
    reader = FrameReader(access or FileAccess((), {}))
    found = open_named(str(path), *(() if access is None else (access,))).references()
    return np.stack([reader.read(reference) for _, reference in found])


def test_an_eiger_is_read_by_its_data_files(tmp_path):
    master = write_eiger(tmp_path)
    np.testing.assert_array_equal(images(master), STACK)
    file = open_image_file(master)
    assert file.dataset == "/entry/data/data_000001 to /entry/data/data_000003"
    assert {one.name for one in file.other_files} == {f"s_data_00000{i}.h5" for i in (1, 2, 3)}


def test_a_series_goes_by_number_not_by_spelling(tmp_path):
    master = write_eiger(tmp_path, files=(1,) * 5)
    with h5py.File(master, "a") as file:
        file["/entry/data"].move("data_000005", "data_1000000")  # spelt before data_000002
    np.testing.assert_array_equal(images(master), STACK)


def test_data_files_that_are_absent_are_reported(tmp_path):
    file = open_image_file(write_eiger(tmp_path, missing=(3,)))
    assert file.n_images == 4
    assert file.notes == (
        "1 of 3 datasets of images are not there, such as /entry/data/data_000003",
    )


def test_a_master_without_any_data_file_says_so(tmp_path):
    with pytest.raises(AbsentFilesError, match="none of the 3 datasets of images"):
        open_image_file(write_eiger(tmp_path, missing=(1, 2, 3)))


def test_links_are_followed_within_the_roots_only(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    write_eiger(outside)
    with h5py.File(inside / "a_master.h5", "w") as file:
        file["/entry/data/data_000001"] = h5py.ExternalLink(
            "../out/s_data_000001.h5", "/entry/data/data"
        )
        file["/entry/thumbnail"] = STACK[0]
    with pytest.raises(RefusedPathError, match="outside the roots"):
        open_image_file(inside / "a_master.h5", access=FileAccess((inside.resolve(),), {}))
    np.testing.assert_array_equal(images(inside / "a_master.h5"), STACK[:2])


def test_a_refused_link_is_never_replaced_by_another_dataset(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    write_eiger(tmp_path)
    with h5py.File(inside / "a.h5", "w") as file:
        file["/scan/frames"] = h5py.ExternalLink("../s_data_000001.h5", "/entry/data/data")
        file["/scan/camera"] = STACK[0]
    with pytest.raises(RefusedPathError, match="outside the roots"):
        open_image_file(inside / "a.h5", access=FileAccess((inside.resolve(),), {}))


def nexus(file, name, kind, **attributes):
    group = file.require_group(name)
    group.attrs["NX_class"] = kind
    group.attrs.update(attributes)
    return group


def detector_with_calibrations(file, name="/entry/instrument/detector", data=STACK):
    group = nexus(file, name, "NXdetector")
    group["data"] = data
    for calibration in ("pixel_mask", "flatfield", "flatfield_error", "gain", "dark_image"):
        group[calibration] = LARGE
    return group


def area_detector(file):
    detector_with_calibrations(file)
    file["/entry/data/data"] = file["/entry/instrument/detector/data"]
    return "/entry/data/data"


def lambda_detector(file):
    nexus(file, "/entry", "NXentry")
    detector_with_calibrations(file)
    return "/entry/instrument/detector/data"


def image_beside_fluorescence(file):
    nexus(file, "/entry/xspress3", "NXdetector")["data"] = np.zeros((50, 4, 4096))
    nexus(file, "/entry/pilatus", "NXdetector")["data"] = STACK
    nexus(file, "/entry/medipix", "NXdetector")["spectrum"] = np.zeros((50, 8, 4096))
    return "/entry/pilatus/data"


def default_plot(file):
    file.attrs["default"] = "entry2"
    for number in (1, 2):
        nexus(file, f"/entry{number}", "NXentry", default="data")
        nexus(file, f"/entry{number}/data", "NXdata", signal="counts")["counts"] = STACK
    return "/entry2/data/counts"


def summaries(file):
    nexus(file, "/entry", "NXentry", default="average")
    nexus(file, "/entry/average", "NXdata", signal="data")["data"] = LARGE
    file["/entry/thumbnail"] = LARGE[:40, :40]
    file["/entry/raw/frames"] = STACK
    return "/entry/raw/frames"


def virtual(file):
    layout = h5py.VirtualLayout(STACK.shape, STACK.dtype)
    file["/entry/instrument/detector/data"] = STACK
    layout[:] = h5py.VirtualSource(file["/entry/instrument/detector/data"])
    nexus(file, "/entry/data", "NXdata", signal="data")
    file["/entry/data"].create_virtual_dataset("data", layout)
    nexus(file, "/entry/copy", "NXdata", signal="images")["images"] = h5py.SoftLink(
        "/entry/data/data"
    )
    return "/entry/data/data"


def before_default(file):
    nexus(file, "/entry", "NXentry")
    file["/entry/monitor_camera"] = LARGE
    file["/entry/frames"] = STACK
    file["/entry/frames"].attrs["signal"] = 1
    return "/entry/frames"


@pytest.mark.parametrize(
    "write",
    [
        area_detector,
        lambda_detector,
        image_beside_fluorescence,
        default_plot,
        summaries,
        virtual,
        before_default,
    ],
)
def test_the_images_are_found(tmp_path, write):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        expected = write(file)
    assert open_image_file(tmp_path / "a.h5").dataset == expected
    np.testing.assert_array_equal(images(tmp_path / "a.h5"), STACK)


def test_two_places_of_one_rank_are_refused_by_name(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in (1, 2):
            group = nexus(file, f"/entry{number}/data", "NXdata", signal="data")
            group["data"] = STACK + number
    message = r"2 places \(/entry1/data/data, /entry2/data/data\).*a\.h5::/entry1/data/data"
    with pytest.raises(FrameError, match=message):
        open_image_file(tmp_path / "a.h5")
    np.testing.assert_array_equal(images(f"{tmp_path}/a.h5::/entry2/data/data"), STACK + 2)
    np.testing.assert_array_equal(images(f"{tmp_path}/a.h5::/entry1"), STACK + 1)


def test_calibrations_alone_are_no_images(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["/entry/instrument/detector/detectorSpecific/flatfield"] = LARGE
        file["/entry/images"] = h5py.SoftLink(
            "/entry/instrument/detector/detectorSpecific/flatfield"
        )
    with pytest.raises(FrameError, match=r"calibrations are not taken for images: .*flatfield"):
        open_image_file(tmp_path / "a.h5")


def test_virtual_images_of_absent_files_are_not_filled(tmp_path):
    layout = h5py.VirtualLayout(STACK.shape, STACK.dtype)
    layout[:] = h5py.VirtualSource("gone.h5", "/data", STACK.shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("/entry/data/data", layout)
    with pytest.raises(AbsentFilesError, match=r"gone\.h5, which is not there"):
        open_image_file(tmp_path / "a.h5")


@pytest.mark.parametrize("shape", [(5, 1, 20, 30), (1, 5, 20, 30)])
def test_axes_of_one_before_the_image_do_not_matter(tmp_path, shape):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["/entry/data/data"] = STACK.reshape(shape)
    np.testing.assert_array_equal(images(tmp_path / "a.h5"), STACK)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/entry/instrument/detector/detectorSpecific/flatfield", True),
        ("/entry/instrument/eiger/pixel_mask", True),
        ("/entry/data/data_errors", True),
        ("/darks/frame_1", True),
        ("/entry/data/data", False),
        ("/entry/masking_layer_film/data", False),
        ("/flatband_sample/data", False),
    ],
)
def test_what_counts_as_a_calibration(name, expected):
    assert is_calibration(name) is expected


def test_datasets_that_are_numbered_otherwise_are_no_series(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["/entry/data_1"], file["/entry/data_2"] = STACK, STACK + 1
    with pytest.raises(FrameError, match="2 places"):
        open_image_file(tmp_path / "a.h5")


def test_a_result_of_this_package_is_not_analysed_again(tmp_path):
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        nexus(file, "/entry/polar", "NXdata", signal="intensity")["intensity"] = STACK
        file["/entry/process/program"] = "gixi_bluesky"
    with pytest.raises(FrameError, match="is a result of this package"):
        open_image_file(tmp_path / "a.nxs")
    assert open_image_file(tmp_path / "a.nxs", "/entry/polar").dataset == "/entry/polar/intensity"

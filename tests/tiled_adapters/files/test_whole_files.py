"""A finished file is whole: copied alone, every reader gives the same images; nxcheck takes it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5grove
import h5py
import numpy as np
import pytest
import silx.io
import xarray
from nexusformat.nexus import nxload
from numpy.typing import NDArray
from tiled_adapters.files.test_tiled_parts import START, filled, new_part
from tiled_servers import image_of

from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks
from gixi_bluesky.processing.types import Cut, FrameResult, PolarImage
from gixi_bluesky.tiled_adapters.files import repacking
from gixi_bluesky.tiled_adapters.files.parts import PartWriter
from gixi_bluesky.tiled_adapters.files.repacking import finish_run, remove_parts
from gixi_bluesky.tiled_adapters.files.result_writer import write_result_file
from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET, STREAMS, TABLES

UID = START["uid"]
GEOMETRY = {
    "wavelength_angstrom": 0.6888,
    "distance_mm": 809.0,
    "pixel_size_mm": [0.2, 0.2],
    "beam_center_px": [222.0, 545.0],
    "incidence_angle_deg": 0.5,
}
FULL_START = {
    **START,
    "sample_name": "film",
    "beamline": "P03",
    "gixi": {
        **START["gixi"],
        "geometry": GEOMETRY,
        "raw_data_key": "pe_image",
        "provenance": {
            **START["gixi"]["provenance"],
            "config": {
                **START["gixi"]["provenance"].get("config", {}),
                "output": {"dois": {"raw": "10.5281/zenodo.1"}},
            },
        },
    },
}
ALL_TABLES = [TABLES[name] for name in STREAMS]


def read_h5py(path: Path) -> NDArray[Any]:
    with h5py.File(path) as file:
        return np.asarray(file[IMAGE_DATASET][()])


def read_silx(path: Path) -> NDArray[Any]:
    with silx.io.open(str(path)) as file:
        return np.asarray(file[IMAGE_DATASET][()])


def read_nexusformat(path: Path) -> NDArray[Any]:
    return np.asarray(nxload(str(path)).get_default().nxsignal.nxvalue)


def read_h5grove(path: Path) -> NDArray[Any]:
    with h5py.File(path) as file:
        content = h5grove.create_content(file, IMAGE_DATASET)
        assert tuple(content.metadata()["shape"]) == content.data().shape
        return np.asarray(content.data())


def read_xarray(path: Path) -> NDArray[Any]:
    with xarray.open_dataset(
        path, group="entry/polar", engine="h5netcdf", phony_dims="sort"
    ) as data:
        return data["intensity"].to_numpy()


READERS = [read_h5py, read_silx, read_nexusformat, read_h5grove, read_xarray]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished file of three frames, alone in a folder."""
    made = tmp_path_factory.mktemp("made")
    part = filled(PartWriter(made, UID, FULL_START, *axes()), [0, 1, 3])
    finished = part.finish()
    folder = tmp_path_factory.mktemp("alone")
    return Path(shutil.copy(finished, folder))


def axes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    n_phi, n_q = image_of(0).shape
    return np.linspace(0, 3.9, n_q), np.linspace(0, 90, n_phi)


@pytest.mark.parametrize("read", READERS)
def test_a_copied_file_gives_its_images_to_every_reader(
    alone: Path, read: Callable[[Path], NDArray[Any]]
) -> None:
    missing = np.full_like(image_of(0), np.nan)
    expected = np.stack([image_of(0), image_of(1), missing, image_of(3)])
    np.testing.assert_array_equal(read(alone), expected)


def nxcheck(path: Path, *arguments: str) -> tuple[list[str], int]:
    """Return the fields that nxcheck warns of, and its number of errors."""
    ran = subprocess.run(
        [str(Path(sys.executable).with_name("nxcheck")), *arguments, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    text = re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout + ran.stderr)
    errors = re.search(r"Total number of errors: (\d+)", text)
    warnings = re.search(r"Total number of warnings: (\d+)", text)
    assert errors, text
    assert warnings, text
    fields = re.findall(r"(?:Field|Group): (\S+)\n[^\n]*(?:not defined|not in|should)", text)
    assert len(fields) >= int(warnings[1]), text
    return sorted(fields), int(errors[1])


def test_nxcheck_finds_nothing_that_could_be_avoided(alone: Path) -> None:
    warned, errors = nxcheck(alone)
    assert errors == 0
    # NXazint2d asks for these, and the check of base classes does not know NXazint2d.
    assert warned == [
        "/entry/azint2d/normalization_applied",
        "/entry/azint2d/polarization_applied",
        "/entry/azint2d/reduction/reference",
        "/entry/azint2d/solid_angle_applied",
    ]


def test_the_images_are_a_valid_nxazint2d(alone: Path) -> None:
    assert nxcheck(alone, "-a", "NXazint2d", "-p", "/entry/azint2d") == ([], 0)
    with h5py.File(alone) as file:
        assert file["/entry/azint2d/data/I"] == file[IMAGE_DATASET]
        assert file["/entry/instrument/detector/distance"][()] == pytest.approx(0.809)
        assert file["/entry/instrument/monochromator/energy"][()] == pytest.approx(18.0, abs=0.01)
        assert file["/entry/sample/name"].asstr()[()] == "film"


def test_cuts_along_q_are_valid_nxazint1d(tmp_path: Path) -> None:
    q, phi = axes()

    def cut(name: str, along: str, unit: str, value: float) -> Cut:
        n = np.full(5, value)
        return Cut(name, along, unit, np.arange(5.0), n, n / 10, n.astype(np.int64), n * 0 + 1)

    results = [
        FrameResult(
            PolarImage(image_of(k), image_of(k), image_of(k), q, phi),
            Peaks.empty(),
            Matches.empty(),
            MatchPeaks.empty(),
            0.5,
            {},
            index=k,
            cuts={
                "film": cut("film", "q", "1/angstrom", 1.0 + k),
                "rod": cut("rod", "q_z", "1/angstrom", 3.0),
            },
        )
        for k in range(2)
    ]
    provenance = {**START["gixi"]["provenance"], "geometry": GEOMETRY}
    path = write_result_file(tmp_path / "out.h5", results, provenance)
    assert nxcheck(path, "-a", "NXazint1d", "-p", "/entry/azint1d_film") == ([], 0)
    assert nxcheck(path)[1] == 0
    with h5py.File(path) as file:
        assert "azint1d_rod" not in file["entry"]
        assert file["/entry/cuts/rod/intensity"].shape == (2, 5)
        assert file["/entry/azint1d_film/data/I"][:, 0].tolist() == [1.0, 2.0]


def test_without_repacking_the_file_names_what_it_needs(tmp_path: Path) -> None:
    finished = filled(new_part(tmp_path), [0]).finish(repack=False)
    with h5py.File(finished) as file:
        note = file["/entry/images_elsewhere/data"].asstr()[()]
    assert f"{UID}/part-0001.h5" in note
    assert f"export {UID} --nexus" in note
    remove_parts(tmp_path, UID)
    assert (tmp_path / UID / "part-0001.h5").exists()  # it is needed
    np.testing.assert_array_equal(read_h5py(finished)[0], image_of(0))


@pytest.mark.parametrize("step", ["complete_entry", "_sync", "checksum"])
def test_a_failure_at_any_step_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    part = filled(new_part(tmp_path), [0, 1])
    part.close()

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(repacking, step, fail)
        with pytest.raises(Exception, match="No space left"):
            finish_run(tmp_path, UID, ALL_TABLES, repack=True)
    assert [path.name for path in tmp_path.iterdir()] == [UID]
    made = finish_run(tmp_path, UID, ALL_TABLES, repack=True)
    assert made is not None
    assert made.gaps == ""
    for _ in range(2):
        remove_parts(tmp_path, UID)
    assert [path.name for path in tmp_path.iterdir()] == [f"{UID}.nxs"]
    np.testing.assert_array_equal(read_h5py(made.path)[1], image_of(1))


def test_a_damaged_image_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    part = filled(new_part(tmp_path), [0, 1, 2])
    place = part._images.id.get_chunk_info_by_coord((1, 0, 0))
    part.close()
    with part.path.open("r+b") as file:
        file.seek(place.byte_offset + place.size // 2)
        file.write(b"\xff" * 32)
    made = finish_run(tmp_path, UID, ALL_TABLES, repack=True)
    assert made is not None
    assert "images of frames 1 could not be read" in made.gaps
    images = read_h5py(made.path)
    np.testing.assert_array_equal(images[[0, 2]], [image_of(0), image_of(2)])
    assert np.isnan(images[1]).all()
    with h5py.File(made.path) as file:
        assert file["/entry/gaps/data"].asstr()[()] == made.gaps

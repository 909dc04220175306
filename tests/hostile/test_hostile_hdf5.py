"""HDF5 files that lead elsewhere: nothing is read that does not lie below the roots."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from fakes import GEOMETRY

from gixi_bluesky.callbacks.folder import FolderRun
from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.detector_files import open_image_file
from gixi_bluesky.callbacks.images.locations import FrameReader, Hdf5Image
from gixi_bluesky.config import parse_config
from gixi_bluesky.errors import (
    ConfigError,
    FrameError,
    GeometryError,
    RefusedPathError,
    UnavailableError,
)
from gixi_bluesky.processing import Pipeline
from gixi_bluesky.processing.pixels.masks import load_mask
from gixi_bluesky.tiled_adapters.files.result_reading import open_result

DATA = "/entry/data/data"
SHAPE = (16, 16)
SECRET = 77


def write(path: Path, value: int = 1, name: str = DATA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file[name] = np.full((1, *SHAPE), value, "u2")
    return path


def virtual(path: Path, source: str, name: str = DATA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", libver="latest") as file:
        layout = h5py.VirtualLayout((1, *SHAPE), "u2")
        layout[:] = h5py.VirtualSource(source, name, shape=(1, *SHAPE))
        file.create_virtual_dataset(DATA, layout)
    return path


def external_storage(root: Path, outside: Path) -> Path:
    (outside / "secret.raw").write_bytes(np.full(SHAPE, SECRET, "u2").tobytes())
    path = root / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(DATA, (1, *SHAPE), "u2", external=[("secret.raw", 0, 512)])
    return path


def source_in_the_working_directory(root: Path, outside: Path) -> Path:
    write(outside / "hidden.h5", SECRET)
    return virtual(root / "a.h5", "hidden.h5")


def absolute_source_that_is_missing(root: Path, outside: Path) -> Path:
    """HDF5 then looks for its last name beside the file and in the working directory."""
    write(outside / "hidden.h5", SECRET)
    return virtual(root / "a.h5", str(root / "gone" / "hidden.h5"))


def source_behind_an_external_link(root: Path, outside: Path) -> Path:
    secret = write(outside / "hidden.h5", SECRET)
    with h5py.File(root / "inner.h5", "w") as file:
        file[DATA] = h5py.ExternalLink(str(secret), DATA)
    return virtual(root / "a.h5", "inner.h5")


def source_behind_two_more(root: Path, outside: Path) -> Path:
    secret = write(outside / "hidden.h5", SECRET)
    virtual(root / "second.h5", str(secret))
    virtual(root / "first.h5", "second.h5")
    return virtual(root / "a.h5", "first.h5")


def source_in_the_file_itself(root: Path, outside: Path) -> Path:
    secret = write(outside / "hidden.h5", SECRET)
    path = root / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for name, source, dataset in (("/far", str(secret), DATA), (DATA, ".", "/far")):
            layout = h5py.VirtualLayout((1, *SHAPE), "u2")
            layout[:] = h5py.VirtualSource(source, dataset, shape=(1, *SHAPE))
            file.create_virtual_dataset(name, layout)
    return path


def source_by_a_pattern(root: Path, outside: Path) -> Path:
    write(outside / "hidden0.h5", SECRET)
    path = root / "a.h5"
    whole, one = h5py.h5s.UNLIMITED, (1, *SHAPE)
    space = h5py.h5s.create_simple(one, (whole, *SHAPE))
    space.select_hyperslab((0, 0, 0), (whole, 1, 1), (1, 1, 1), one)
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_virtual(space, b"hidden%b.h5", DATA.encode(), h5py.h5s.create_simple(one))
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("/entry/data")
        whole_space = h5py.h5s.create_simple(one, (whole, *SHAPE))
        h5py.h5d.create(group.id, b"data", h5py.h5t.STD_U16LE, whole_space, dcpl=creation)
    return path


WAYS = [
    external_storage,
    source_in_the_working_directory,
    absolute_source_that_is_missing,
    source_behind_an_external_link,
    source_behind_two_more,
    source_in_the_file_itself,
    source_by_a_pattern,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_way_leads_out_of_the_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[[Path, Path], Path]
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    path = way(root, outside)
    monkeypatch.chdir(outside)
    access = FileAccess((root.resolve(),), {})
    for _ in range(2):
        with pytest.raises(RefusedPathError):
            FrameReader(access).read(Hdf5Image(str(path), DATA, 0))
    with pytest.raises(RefusedPathError):
        open_image_file(path, DATA, access)


def test_a_source_that_is_swapped_is_refused_the_next_time(tmp_path: Path) -> None:
    root = tmp_path / "root"
    secret = write(tmp_path / "hidden.h5", SECRET)
    write(root / "source.h5", 5)
    path = virtual(root / "a.h5", "source.h5")
    reader = FrameReader(FileAccess((root.resolve(),), {}))
    reference = Hdf5Image(str(path), DATA, 0)
    assert (reader.read(reference) == 5).all()
    (root / "source.h5").unlink()
    (root / "source.h5").symlink_to(secret)
    with pytest.raises(RefusedPathError, match="outside the roots"):
        reader.read(reference)


@pytest.mark.slow
def test_virtual_datasets_that_multiply_are_refused(tmp_path: Path) -> None:
    """Each names the next 64 times: 64**8 sources in some kilobytes."""
    for level in range(8):
        with h5py.File(tmp_path / f"{level}.h5", "w", libver="latest") as file:
            layout = h5py.VirtualLayout((64, 16), "u2")
            for row in range(64):
                source = h5py.VirtualSource(f"{level + 1}.h5", f"d{row}", shape=(16,))
                layout[row] = source
            for row in range(64):
                file.create_virtual_dataset(f"d{row}", layout)
    with pytest.raises(RefusedPathError, match="nested deeper"):
        FrameReader(FileAccess((), {})).read(Hdf5Image(str(tmp_path / "0.h5"), "d0", 0))


def test_what_hdf5_would_wait_for_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file[DATA] = h5py.ExternalLink("pipe.h5", DATA)
    virtual(tmp_path / "vds.h5", "pipe.h5")
    reader = FrameReader(FileAccess((), {}))
    for name in ("pipe.h5", "link.h5", "vds.h5"):
        with pytest.raises(RefusedPathError, match="pipe"):
            reader.read(Hdf5Image(str(tmp_path / name), DATA, 0))
        with pytest.raises(RefusedPathError):
            open_image_file(tmp_path / name, DATA)


@pytest.mark.parametrize("default", [".", "entry", "/", "../..", "x" * 70_000, b"\xff\xfe"])
def test_a_default_plot_that_leads_nowhere_ends(tmp_path: Path, default: str | bytes) -> None:
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a", libver="latest") as file:
        for group in (file, file["entry"]):
            if len(default) < 60_000:
                group.attrs["default"] = default
            else:
                group.attrs.create("default", default, dtype=h5py.string_dtype())
    assert open_image_file(path).dataset == DATA


def test_a_name_that_is_too_long_is_unavailable(tmp_path: Path) -> None:
    long = "a" * 5000
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file[DATA] = h5py.ExternalLink(long, DATA)
    virtual(tmp_path / "vds.h5", long)
    reader = FrameReader(FileAccess((), {}))
    for name in (f"{long}.h5", "link.h5"):
        with pytest.raises(UnavailableError):
            reader.read(Hdf5Image(str(tmp_path / name), DATA, 0))
    assert (reader.read(Hdf5Image(str(tmp_path / "vds.h5"), DATA, 0)) == 0).all()


def test_a_file_of_very_many_groups_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("g")
        empty = group.create_group("empty")
        for number in range(2000):
            group[f"n{number}"] = empty  # one object under many names is searched once
    with pytest.raises(FrameError, match="no images"):
        open_image_file(path)


def test_watching_reads_no_file_that_leads_out_of_the_roots(tmp_path: Path) -> None:
    root = tmp_path / "root"
    secret = write(tmp_path / "hidden.h5", SECRET)
    virtual(root / "a.h5", str(secret))
    (root / "b.h5").symlink_to(secret)
    documents: list[tuple[str, dict[str, object]]] = []
    access = FileAccess((root.resolve(),), {})
    run = FolderRun(root, lambda name, doc: documents.append((name, doc)), access)
    run.poll()
    assert run.poll() == 2
    reader = FrameReader(access)
    for resource in (doc for name, doc in documents if name == "stream_resource"):
        with pytest.raises(RefusedPathError):
            reader.read(Hdf5Image(str(resource["uri"]), DATA, 0))


@pytest.mark.parametrize("setting", ["mask", "poni", "nexus", "cif", "dark"])
def test_a_pipe_in_the_configuration_is_refused_at_once(tmp_path: Path, setting: str) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    pipe = str(tmp_path / "pipe.h5")
    file = {"incidence_angle_deg": 0.1, setting: pipe}
    tree = {
        "mask": {"geometry": {**GEOMETRY, "mask": pipe}},
        "poni": {"geometry": file},
        "nexus": {"geometry": {**file, "nexus": f"{pipe}::/entry/detector"}},
        "cif": {"geometry": GEOMETRY, "matching": {"cif": pipe}},
        "dark": {"geometry": GEOMETRY, "corrections": {"dark": pipe}},
    }[setting]
    outcome: list[Exception] = []

    def analyse() -> None:
        try:
            config = parse_config({**tree, "detector": {"weights": "classical"}}, folder=tmp_path)
            Pipeline(config)(np.ones((64, 64), "u2"))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=analyse, daemon=True)
    thread.start()
    thread.join(timeout=180)
    assert not thread.is_alive()
    assert isinstance(outcome[0], GeometryError | ConfigError | ValueError), outcome
    assert "pipe" in str(outcome[0])


def test_a_mask_may_not_lead_to_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    virtual(tmp_path / "mask.h5", "pipe.h5")
    with pytest.raises(GeometryError, match="0 2-D datasets"):
        load_mask(tmp_path / "mask.h5", SHAPE)


def test_a_result_file_that_leads_out_of_its_folder_is_not_opened(tmp_path: Path) -> None:
    secret = write(tmp_path / "hidden.h5", SECRET)
    folder = tmp_path / "results"
    virtual(folder / "part.h5", str(secret))
    virtual(folder / "nested.h5", "part.h5")
    with h5py.File(folder / "link.h5", "w") as file:
        file["/entry/far"] = h5py.SoftLink("/entry")
    for name in ("part.h5", "nested.h5", "link.h5"):
        with pytest.raises(RefusedPathError):
            open_result(folder / name)
    write(folder / "own.h5")
    virtual(folder / "beside.h5", "own.h5")
    with open_result(folder / "beside.h5") as file:
        assert file[DATA][0, 0, 0] == 1

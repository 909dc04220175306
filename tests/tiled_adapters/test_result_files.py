"""The adapter for result files, as a server uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from fake_pipeline import N_PHI, N_Q
from result_files import single_file
from tiled.ndslice import NDSlice
from tiled_servers import PHI, Q, columns, image_of, start_document

from gixi_bluesky.errors import StoreError
from gixi_bluesky.tiled_adapters.files.parts import PartWriter
from gixi_bluesky.tiled_adapters.result_files import ResultFileAdapter
from gixi_bluesky.tiled_adapters.schema import STREAMS


def test_a_file_gives_its_arrays_and_tables(tmp_path: Path) -> None:
    adapter = ResultFileAdapter.from_uris(single_file(tmp_path).as_uri())
    assert adapter["peaks"].read()["q"].tolist() == [1.0, 2.0]
    image = adapter["polar_image"].read(NDSlice(1))
    np.testing.assert_array_equal(image, np.full((N_PHI, N_Q), 200, "<f4"))
    assert adapter.metadata()["configuration"] == {"a": 1}


def test_a_finished_run_and_a_growing_part_open_too(tmp_path: Path) -> None:
    """The images of a finished run are virtual, over the part beside it."""
    start = start_document()
    part = PartWriter(tmp_path, start["uid"], start, Q, PHI)
    part.append_images({0: image_of(0)})
    for stream in STREAMS:
        part.append_table(stream, columns(stream, [0]))
    growing = ResultFileAdapter.from_uris(part.path.as_uri())
    assert growing["frames"].read()["frame"].tolist() == [0]
    finished = ResultFileAdapter.from_uris(part.finish().as_uri())
    np.testing.assert_array_equal(finished["polar_image"].read(NDSlice(0)), image_of(0))
    assert finished.metadata()["start_document"]["uid"] == start["uid"]


def link(file: h5py.File, secret: Path) -> None:
    del file["/entry/polar/q"]
    file["/entry/polar/q"] = h5py.ExternalLink(str(secret), "/secret")


def virtual(file: h5py.File, secret: Path) -> None:
    del file["/entry/polar/q"]
    layout = h5py.VirtualLayout((3,), "<f8")
    layout[:] = h5py.VirtualSource(str(secret), "/secret", (3,))
    file.create_virtual_dataset("/entry/polar/q", layout)


def external(file: h5py.File, secret: Path) -> None:
    del file["/entry/polar/q"]
    file.create_dataset("/entry/polar/q", (3,), "<f8", external=[(str(secret), 0, 24)])


@pytest.mark.parametrize("smuggle", [link, virtual, external])
def test_a_file_that_leads_out_of_its_folder_is_refused(
    tmp_path: Path, smuggle: Callable[[h5py.File, Path], None]
) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["secret"] = np.ones(3)
    path = single_file(tmp_path / "results")
    with h5py.File(path, "r+") as file:
        smuggle(file, secret)
    with pytest.raises(
        StoreError, match=r"/entry/polar/q in .*(not followed|outside|external storage)"
    ):
        ResultFileAdapter.from_uris(path.as_uri())

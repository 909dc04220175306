from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the filters
import numpy as np
import pytest
import silx.io
import silx.io.nxdata
from fakes import fake_config
from nexusformat.nexus import nxload
from tiled_servers import IMAGE_SHAPE, PHI, Q, columns, image_of, start_document

from gixi_bluesky.config import load_config
from gixi_bluesky.errors import ConfigError, StoreError
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks
from gixi_bluesky.processing.types import FrameResult, PolarImage
from gixi_bluesky.tiled_adapters.files import repacking
from gixi_bluesky.tiled_adapters.files.parts import PartWriter
from gixi_bluesky.tiled_adapters.files.repacking import remove_parts
from gixi_bluesky.tiled_adapters.files.result_reading import read_table
from gixi_bluesky.tiled_adapters.files.result_writer import write_result_file
from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET, STREAMS

START = start_document("0f0e0d0c-0000-4000-8000-000000000001", raw_uid="raw-9")


def new_part(folder: Path, **more: Any) -> PartWriter:
    return PartWriter(folder, START["uid"], START, Q, PHI, **more)


def filled(part: PartWriter, frames: list[int]) -> PartWriter:
    part.append_images({frame: image_of(frame) for frame in frames})
    for stream in STREAMS:
        part.append_table(stream, columns(stream, frames))
    return part


def assert_finished(path: Path, frames: int) -> None:
    with h5py.File(path, "r") as file:
        images = file[IMAGE_DATASET]
        for frame in range(frames):
            np.testing.assert_array_equal(images[frame], image_of(frame))
        for stream in STREAMS:
            rows = read_table(file["entry"], stream)
            assert list(rows.columns) == list(columns(stream, []))
            for name, values in columns(stream, range(frames)).items():
                assert list(rows[name]) == values


def test_a_part_is_read_while_it_grows(tmp_path: Path) -> None:
    part = filled(new_part(tmp_path), [0, 1])
    with h5py.File(part.path, "r", swmr=True, libver="latest") as reader:
        np.testing.assert_array_equal(reader[IMAGE_DATASET][1], image_of(1))
        part.append_images({4: image_of(4)})
        reader[IMAGE_DATASET].id.refresh()
        np.testing.assert_array_equal(reader[IMAGE_DATASET][4], image_of(4))
        assert np.isnan(reader[IMAGE_DATASET][3]).all()
    part.close()


def test_a_part_is_finished_while_the_same_process_serves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 refuses to open a file both with SWMR and without in one process."""
    part = filled(new_part(tmp_path), [0])
    write = repacking.create_entry

    def write_and_serve(*arguments: Any) -> Any:
        with h5py.File(part.path, "r", swmr=True, locking=None) as reader:
            np.testing.assert_array_equal(reader[IMAGE_DATASET][0], image_of(0))
        return write(*arguments)

    monkeypatch.setattr(repacking, "create_entry", write_and_serve)
    assert_finished(part.finish(), 1)


def test_each_session_has_a_part_of_its_own_that_begins_with_the_last(tmp_path: Path) -> None:
    first = filled(new_part(tmp_path), [0, 1, 2])
    first.close()
    second = new_part(tmp_path, committed={0, 1})
    assert [second.path.name, second.rows] == ["part-0002.h5", 2]
    finished = filled(second, [2, 3]).finish()
    # Until it is complete, the run may still become so with what the first session spooled.
    assert first.path.exists()
    remove_parts(tmp_path, START["uid"])
    assert_finished(finished, 4)
    assert [path.name for path in tmp_path.iterdir()] == [finished.name]


@pytest.mark.slow
def test_the_part_of_a_killed_writer_is_taken_over(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from tiled_adapters.files.test_tiled_parts import filled, new_part\n"
        "part = filled(new_part(Path(sys.argv[2])), [0, 1, 2])\n"
        "print('written', flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(Path(__file__).parents[2]), str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(tmp_path / START["uid"] / "part-0001.h5", "r")
    assert_finished(filled(new_part(tmp_path), [3]).finish(), 4)


def test_the_finished_file_opens_from_anywhere_on_a_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = filled(new_part(tmp_path), [0, 1]).finish()
    monkeypatch.chdir("/")
    assert_finished(finished, 2)

    with silx.io.open(str(finished)) as file:
        plot = silx.io.nxdata.get_default(file)
        assert plot.signal.name == IMAGE_DATASET
        assert [axis.name.rsplit("/", 1)[-1] for axis in plot.axes] == ["frame", "phi", "q"]
        assert plot.is_valid

    tree = nxload(str(finished))
    plot = tree.get_default()
    assert plot.nxsignal.nxname == "intensity"
    assert [axis.nxname for axis in plot.nxaxes] == ["frame", "phi", "q"]
    assert tree["entry/polar/q"].attrs["units"] == "1/angstrom"


def test_moving_file_and_folder_together_breaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    filled(new_part(tmp_path / "old"), [0]).finish(repack=False)
    (tmp_path / "old").rename(tmp_path / "new")
    assert_finished(tmp_path / "new" / f"{START['uid']}.nxs", 1)


def test_provenance_and_raw_run_are_in_the_file(tmp_path: Path) -> None:
    finished = new_part(tmp_path).finish()
    with h5py.File(finished, "r") as file:
        process = file["entry/process"]
        assert json.loads(process["configuration"][()]) == {"grid": {"q_max_inv_angstrom": 3.9}}
        assert json.loads(process["provenance"][()])["version"] == "0.1"
        assert file["entry/process/raw_run"][()] == b"urn:uuid:raw-9"
        assert file[IMAGE_DATASET].shape == (0, *IMAGE_SHAPE)


def test_a_result_file_gives_back_what_decided_it(tmp_path: Path) -> None:
    config = fake_config(
        tmp_path,
        geometry={"incidence_angle_deg": {"from": "th", "offset": 0.1}},
        matching={"max_dq_inv_angstrom": 0.02},
        output={"images": "every_3", "dois": {"raw": "https://doi.org/10.5281/zenodo.1"}},
    )
    start = {
        **START,
        "gixi": {"provenance": {"config": config.model_dump(mode="json", by_alias=True)}},
    }
    part = PartWriter(tmp_path / "results", START["uid"], start, Q, PHI)
    part.close()
    finished = part.finish()
    for path in (part.path, finished):
        taken = load_config(path)
        assert (taken.geometry, taken.matching) == (config.geometry, config.matching)
        assert taken.output.images == "all"
    with h5py.File(finished, "r") as file:
        related = file["entry/related_raw"]
        assert related.attrs["NX_class"] == b"NXcollection"  # nxcheck refuses an NXcite here
        assert related["related_identifier"].asstr()[()] == "10.5281/zenodo.1"
        assert related["related_identifier_type"].asstr()[()] == "DOI"
        assert related["relation_type"].asstr()[()] == "IsDerivedFrom"


def test_a_file_without_a_configuration_is_reported(tmp_path: Path) -> None:
    h5py.File(tmp_path / "other.nxs", "w").close()
    (tmp_path / "text.h5").write_text("no HDF5")
    for name in ("other.nxs", "text.h5"):
        with pytest.raises(ConfigError, match="no result file that holds its configuration"):
            load_config(tmp_path / name)


def test_columns_have_the_names_that_mlgid_programs_know_too(tmp_path: Path) -> None:
    finished = filled(new_part(tmp_path), [0]).finish()
    with h5py.File(finished, "r") as file:
        peaks = file["entry/peaks"]
        assert {"radius", "angle", "q_xy", "q_z"} <= set(peaks)
        assert peaks["radius"] == peaks["q"]  # one dataset under two names
        assert peaks["angle"] == peaks["phi"]
        for stream in ("matches", "match_peaks"):
            assert file[f"entry/{stream}/CIF"] == file[f"entry/{stream}/phase"]


def test_every_string_has_a_fixed_length(tmp_path: Path) -> None:
    finished = filled(new_part(tmp_path), [0]).finish()

    def check(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            assert node.dtype.kind != "O", name

    with h5py.File(finished, "r") as file:
        file.visititems(check)


def test_a_folder_that_refuses_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="MiB free"):
        new_part(tmp_path / "file")


def test_a_result_file_has_the_same_layout(tmp_path: Path) -> None:
    polar = PolarImage(image_of(0), image_of(0), image_of(0), Q, PHI)
    results = [
        FrameResult(polar, Peaks.empty(), Matches.empty(), MatchPeaks.empty(), 0.5, {}, index=i)
        for i in range(2)
    ]
    path = write_result_file(tmp_path / "out.h5", results, START["gixi"]["provenance"])
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(file[IMAGE_DATASET][1], image_of(0))
        assert json.loads(file["entry/process/configuration"][()])["grid"]
    assert nxload(str(path)).get_default().nxsignal.nxname == "intensity"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.h5"]


def test_text_is_cut_between_characters(tmp_path: Path) -> None:
    part = new_part(tmp_path)
    rows = columns("frames", [0])
    part.append_table("frames", {**rows, "status": ["ok"], "reason": ["Å" * 200]})
    with h5py.File(part.finish(), "r") as file:
        assert read_table(file["entry"], "frames")["reason"][0] == "Å" * 100


def test_peaks_without_rows_are_valid_tables(tmp_path: Path) -> None:
    with h5py.File(new_part(tmp_path).finish(), "r") as file:
        assert len(read_table(file["entry"], "peaks")) == 0

"""The demo: its film, its detector's documents and files, and the whole of it."""

from __future__ import annotations

import json
import math

import event_model
import h5py
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.plans import count
from bluesky.utils import FailedStatus
from PIL import Image

from gixi_bluesky.demo import run_demo
from gixi_bluesky.demo.beamline import DATASET, SimulatedDetector
from gixi_bluesky.demo.crystallisation import Crystallisation
from gixi_bluesky.demo.experiment import SHAPE, demo_config, simulated_exposures
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs


@pytest.fixture(scope="module")
def film():
    return Crystallisation(read_structure(shipped_cifs()["MAPbBr3"], q_max=3.6))


def small_detector(directory):
    rng = np.random.default_rng(0)
    return SimulatedDetector(
        name="giwaxs",
        expose=lambda time_s: rng.poisson(3 + time_s, (20, 30)).astype(np.int32),
        shape=(20, 30),
        directory=directory,
        period_s=2.0,
        exposure_s=0.0,
    )


def measured(detector, frames):
    documents = []
    engine = RunEngine({})
    engine.subscribe(lambda name, document: documents.append((name, document)))
    engine(count([detector], num=frames))
    return documents


def test_the_film_is_wet_until_the_onset_and_crystalline_at_the_end(film):
    assert film.scene(film.onset_s - 1).phases == ()
    assert film.wet(0.0) > 0.99
    assert 0 < film.crystalline(film.onset_s + 4) < 0.1
    assert film.crystalline(film.duration_s) == pytest.approx(1.0)
    assert film.wet(film.duration_s) < 0.01


def test_every_frame_is_in_the_file_when_it_is_announced(tmp_path):
    detector = small_detector(tmp_path)
    engine, rows = RunEngine({}), []
    resource = {}

    def reader(name, document):
        if name == "stream_resource":
            resource.update(document)
        elif name == "stream_datum":
            path = resource["uri"].removeprefix("file://localhost")
            with h5py.File(path, "r", swmr=True) as file:
                rows.append((document["indices"], len(file[resource["parameters"]["dataset"]])))

    engine.subscribe(reader)
    engine(count([detector], num=3))
    assert [(r["start"], r["stop"]) for r, _ in rows] == [(0, 1), (1, 2), (2, 3)]
    assert [length for _, length in rows] == [1, 2, 3]


def test_documents_are_valid_and_frames_are_external(tmp_path):
    documents = measured(small_detector(tmp_path), 2)
    for name, document in documents:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(document)
    descriptor = next(d for name, d in documents if name == "descriptor")
    assert descriptor["data_keys"]["giwaxs_image"]["external"] == "STREAM:"
    assert descriptor["configuration"]["giwaxs"]["data"] == {"giwaxs_incidence_angle": 0.0}
    events = [d["data"] for name, d in documents if name == "event"]
    assert events == [{"time_s": 0.0}, {"time_s": 2.0}]


def test_files_open_in_any_reader_afterwards(tmp_path):
    measured(small_detector(tmp_path), 4)
    (path,) = tmp_path.glob("*.h5")
    with h5py.File(path, "r") as file:
        assert file[DATASET].shape == (4, 20, 30)
        default = file[file.attrs["default"]]
        assert default[default.attrs["default"]].attrs["signal"] == "data"


def test_a_second_run_of_a_detector_has_a_file_of_its_own(tmp_path):
    detector = small_detector(tmp_path)
    first, second = measured(detector, 1), measured(detector, 2)
    uris = {d["uri"] for name, d in first + second if name == "stream_resource"}
    assert len(uris) == len(list(tmp_path.glob("*.h5"))) == 2


def test_a_detector_that_cannot_write_fails_the_plan(tmp_path):
    detector = small_detector(tmp_path)
    detector._expose = lambda time_s: np.zeros((5, 5), np.int32)
    with pytest.raises(FailedStatus):
        measured(detector, 1)


def test_frames_are_laid_out_as_the_configuration_says(tmp_path, film):
    """The beam is at the bottom after the flip, so at the top of the array in the file."""
    expose = simulated_exposures(demo_config(tmp_path).geometry, film)
    frame = expose(0.0)
    assert frame.shape == SHAPE
    assert frame.dtype == np.int32
    top, bottom = frame[:100, 100:200], frame[-100:, 100:200]
    assert bottom[bottom >= 0].mean() > 2 * top[top >= 0].mean()


@pytest.mark.system
@pytest.mark.timeout(900)
def test_the_demo_finds_the_crystals_and_nothing_else(tmp_path):
    summary = run_demo(tmp_path / "demo", frames=15)
    assert summary == json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert set(summary) == {
        "phases",
        "n_frames",
        "n_peaks",
        "frames_per_second",
        "absent_phases",
    }
    assert set(summary["phases"]) == {"MAPbBr3"}
    assert summary["phases"]["MAPbBr3"]["probability"] > 0.9
    period_s = 120 / 15
    assert 32 <= summary["phases"]["MAPbBr3"]["onset_s"] <= 32 + 2 * period_s
    assert set(summary["absent_phases"]) == set(shipped_cifs()) - {"MAPbBr3"}
    assert max(summary["absent_phases"].values()) < 0.5
    assert summary["n_frames"] == 15
    assert summary["n_peaks"] > 30
    assert math.isfinite(summary["frames_per_second"])
    with Image.open(tmp_path / "demo" / "overview.png") as picture:
        assert min(picture.size) > 800

"""`output.arrays`: images uploaded to a server that cannot see our files, or none at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from fakes import fake_config
from tiled_servers import IMAGE_SHAPE, STREAMS, columns, descriptor, image_of, page

from gixi_bluesky.callbacks.derived.arrays import RunArrays
from gixi_bluesky.callbacks.derived.start_document import start_document
from gixi_bluesky.callbacks.derived.stores import store_builder
from gixi_bluesky.callbacks.documents.document_types import RunStart
from gixi_bluesky.callbacks.runs.raw_run import RawRun
from gixi_bluesky.callbacks.worker.jobs import Analysed, Ready
from gixi_bluesky.errors import ConfigError, StoreError
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks
from gixi_bluesky.provenance import Provenance
from gixi_bluesky.tiled_adapters.schema import IMAGE_KEY, IMAGES
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.store.composer import RunComposer
from gixi_bluesky.tiled_adapters.store.spooled_store import SpooledStore
from gixi_bluesky.tiled_adapters.store.writer import DerivedRunStore

OUTPUT = OutputSettings(arrays="tiled")


def documents(output: OutputSettings = OUTPUT) -> RunComposer:
    raw = RawRun(RunStart(str(uuid4()), 1.0, 1, {}), "primary", "img")
    config = {"grid": {"q_max_inv_angstrom": 3.9, "shape": list(IMAGE_SHAPE)}}
    provenance = Provenance("0", "hash", config, {}, "none", "", {})
    return RunComposer(start_document(raw, Ready(provenance, ()), output, TiledSettings()))


def analysed(frame: int) -> Analysed:
    return Analysed(
        Peaks.empty(),
        Matches.empty(),
        MatchPeaks.empty(),
        np.linspace(0, 3, IMAGE_SHAPE[1]),
        np.linspace(0, 90, IMAGE_SHAPE[0]),
        image_of(frame),
        0.5,
        1.0,
    )


class Run:
    """A run whose images are uploaded, `frames` at a time."""

    def __init__(self, catalogue: Any, folder: Path, made: RunComposer) -> None:
        self.uid = made.uid
        self.store = SpooledStore(lambda: self._store(catalogue), folder)
        self.state = self.store.open(made.start)
        self.arrays = RunArrays(made, OUTPUT)

    def _store(self, catalogue: Any) -> DerivedRunStore:
        if catalogue is None:
            message = "Tiled is away"
            raise StoreError(message)
        return DerivedRunStore(catalogue, OUTPUT, TiledSettings())

    def flush(self, *frames: int) -> None:
        for name, doc in self.arrays.save({k: analysed(k) for k in frames}, {}, ()):
            self.store(name, doc)


def images_of(catalogue: Any, uid: str) -> Any:
    return catalogue[uid][IMAGES].base[IMAGE_KEY].read()


def finish(run: Run) -> None:
    for stream in STREAMS:
        run.store("descriptor", descriptor(run.uid, stream))
    run.store("event_page", page(run.uid, "frames", 1, columns("frames", [0]) | {"n_peaks": [0]}))
    stop = {"uid": "stop", "run_start": run.uid, "time": 2.0, "exit_status": "success"}
    run.store("stop", stop)
    run.store.close()


def test_uploaded_images_are_those_of_their_frames(catalogue: Any, tmp_path: Path) -> None:
    run = Run(catalogue, tmp_path, documents())
    run.flush(0, 1)
    run.flush(4, 5, 6)  # frames 2 and 3 failed: they have rows without data
    finish(run)
    stored = images_of(catalogue, run.uid)
    assert stored.dtype == np.float32
    for frame in (0, 1, 4, 5, 6):
        np.testing.assert_array_equal(stored[frame], image_of(frame))
        np.testing.assert_array_equal(catalogue[run.uid].polar_image(frame), image_of(frame))
    assert np.isnan(stored[2:4]).all()
    assert list(tmp_path.glob("*.nxs")) == []


def test_more_images_than_fit_into_one_request_arrive_in_order(
    catalogue: Any, tmp_path: Path
) -> None:
    run = Run(catalogue, tmp_path, documents())
    run.flush(*range(19))
    finish(run)
    np.testing.assert_array_equal(
        images_of(catalogue, run.uid), [image_of(frame) for frame in range(19)]
    )


def test_images_spooled_while_tiled_was_away_arrive_after_a_restart(
    catalogue: Any, tmp_path: Path
) -> None:
    made = documents()
    run = Run(None, tmp_path, made)
    run.flush(0, 1, 2)
    run.store.close()
    run = Run(catalogue, tmp_path, made)
    run.flush(2, 3)
    finish(run)
    np.testing.assert_array_equal(
        images_of(catalogue, run.uid), [image_of(frame) for frame in range(4)]
    )


def test_without_arrays_there_is_nothing_but_tables(tmp_path: Path) -> None:
    output = OutputSettings(arrays="none", directory=tmp_path)
    arrays = RunArrays(documents(output), output)
    assert not arrays.keeps_image(0)
    assert arrays.save({0: analysed(0)}, {}, ()) == []
    arrays.finish({})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arrays", ["tiled", "none"])
def test_without_a_server_something_must_be_kept_in_files(tmp_path: Path, arrays: str) -> None:
    with pytest.raises(ConfigError, match=r"nothing would be stored.* give tiled\.uri"):
        store_builder(fake_config(tmp_path, output={"arrays": arrays}))

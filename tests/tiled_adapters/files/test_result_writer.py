"""Result files of images alone: written as frames come, whole or not at all."""

from __future__ import annotations

import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from fake_pipeline import FakePipeline
from fakes import fake_config
from full_disk import files_below

from gixi_bluesky.errors import StoreError
from gixi_bluesky.processing.types import FrameResult
from gixi_bluesky.tiled_adapters.files.result_reading import read_table
from gixi_bluesky.tiled_adapters.files.result_writer import ResultWriter, write_result_file
from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET

PROVENANCE = {"version": "1", "config": {"a": 1}}


def result(number: int) -> FrameResult:
    made = FakePipeline(fake_config(Path()))(np.full((4, 4), 100.0 * (number + 1)))
    return replace(made, index=number)


def test_no_image_and_the_rows_of_few_frames_are_kept(tmp_path: Path) -> None:
    writer = ResultWriter(tmp_path / "film.h5", PROVENANCE)
    images: list[weakref.ref[Any]] = []
    alive, waiting = [], []
    for number in range(70):
        frame = result(number)
        images.append(weakref.ref(frame.polar.intensity))
        writer.add(frame)
        del frame
        alive.append(sum(image() is not None for image in images))
        waiting.append(writer.waiting)
    assert max(alive) == 0
    assert max(waiting) < 32
    with h5py.File(writer.finish()) as file:
        assert file["/entry/polar/frame"][()].tolist() == list(range(70))
        peaks = read_table(file["entry"], "peaks")
        stored = file[IMAGE_DATASET][()]
    np.testing.assert_array_equal(stored[69], result(69).polar_image)
    expected = pd.concat([result(number).peaks for number in range(70)], ignore_index=True)
    pd.testing.assert_frame_equal(peaks[expected.columns], expected, check_dtype=False)


def test_steps_have_their_tables(tmp_path: Path) -> None:
    rows = {"status": ["ok"], "reason": [""], "share": [0.5]}
    results = [replace(result(number), step_rows={"mine": rows}) for number in range(2)]
    with h5py.File(write_result_file(tmp_path / "film.h5", results, PROVENANCE)) as file:
        table = read_table(file["entry"], "step_mine").set_index("frame")
    assert table["share"].tolist() == [0.5, 0.5]
    assert table["status"].tolist() == ["ok", "ok"]


@pytest.mark.parametrize("before", [True, False])
def test_a_full_disk_leaves_no_half_file(tmp_path: Path, before: bool) -> None:
    path = tmp_path / "film.h5"
    if before:
        path.write_bytes(b"as it was")
    noise = np.random.default_rng(1).normal(size=(200, 300)).astype(np.float32)
    frames = [result(number) for number in range(20)]
    frames = [replace(one, polar=replace(one.polar, intensity=noise)) for one in frames]
    with (
        files_below(1_000_000),
        pytest.raises(StoreError, match=r"film\.h5.*incomplete file is removed"),
    ):
        write_result_file(path, frames, PROVENANCE)
    assert [one.name for one in tmp_path.iterdir()] == (["film.h5"] if before else [])
    assert not before or path.read_bytes() == b"as it was"


def test_the_room_is_checked_before_each_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    writer = ResultWriter(tmp_path / "film.h5", PROVENANCE)
    writer.add(result(0))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(StoreError, match="1 MiB are free and 4 MiB are needed"):
        writer.add(result(1))
    writer.close()
    assert not list(tmp_path.iterdir())

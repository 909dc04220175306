"""Worker or consumer killed in mid-run: tracks and courses as those of an undisturbed run."""

from __future__ import annotations

import os
import signal
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
import pytest
from consumer_process import FACTORY
from fakes import FILM, fake_config
from kafka_site import Site, assert_whole, wait_for
from raw_runs import feed, images, inline_run
from served import stored_frames
from waiting import wait_until

from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.callbacks.derived.stores import store_builder
from gixi_bluesky.callbacks.kafka.wire import encode

pytestmark = pytest.mark.system

FRAMES, KILLED_AFTER = 14, 5
GRID = {"shape": [64, 256], "q_max_inv_angstrom": 3.0}
SECTIONS: dict[str, Any] = {"tracks": {"sums_of": 0}, "grid": GRID}


def assert_followed(peaks: pd.DataFrame, courses: pd.DataFrame) -> None:
    """Check that there is something to lose: four tracks, one of a late peak, one with gaps."""
    assert peaks.groupby("track")["frame"].count().drop(-1).to_dict() == {
        0: FRAMES,
        1: FRAMES,
        2: FRAMES - FRAMES // 3 - 1,  # the first one has no number yet
        3: FRAMES - 7,
    }
    assert (peaks["track"] == -1).sum() == 1  # the first weak peak
    assert len(courses) == 4 * FRAMES
    assert courses["intensity"].notna().all()


def file_tables(directory: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    (finished,) = directory.glob("*.nxs")
    with h5py.File(finished) as file:
        found = [
            pd.DataFrame({name: data[()] for name, data in file["entry"][stream].items()})
            for stream in ("peaks", "courses")
        ]
    peaks, courses = found
    return (
        peaks.sort_values(["frame", "peak"], ignore_index=True),
        courses.sort_values(["frame", "track"], ignore_index=True),
    )


def analysed(folder: Path, kills: tuple[int, ...] = ()) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Analyse the film and return its peaks and courses.

    kills: frames done after which the worker is killed, while the next ones are with it
    """
    config = fake_config(folder, **SECTIONS)
    documents = iter(inline_run(images(FRAMES)))
    with Analysis(config, store=store_builder(config), factory=FILM) as analysis:
        for done in kills:
            feed(analysis, list(islice(documents, 6)))
            wait_until(lambda done=done: analysis.status()["frames_done"] >= done)
            os.kill(analysis.status()["worker_pid"], signal.SIGKILL)
        feed(analysis, list(documents))
        assert analysis.drain(90)
        wait_until(lambda: analysis.status()["worker_restarts"] == len(kills))
    return file_tables(folder / "results")


def test_a_killed_worker_changes_no_track(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIXI_FAKE_SECONDS", "0.05")
    expected = analysed(tmp_path / "whole")
    assert_followed(*expected)
    for found, wanted in zip(analysed(tmp_path / "killed", (2, 8)), expected, strict=True):
        own = [name for name in ("time", "seq_num") if name in found]
        pd.testing.assert_frame_equal(found.drop(columns=own), wanted.drop(columns=own))


def test_a_killed_consumer_changes_no_track(kafka_site: Site) -> None:
    """The second consumer goes on with a run, and has another one of the same images to itself."""
    site = kafka_site
    site.create(partitions=1)
    site.arrays, site.sections = "external", SECTIONS
    disturbed, whole = inline_run(images(FRAMES)), inline_run(images(FRAMES))
    first = site.consumer("first", **{FACTORY: FILM, "GIXI_FAKE_SECONDS": "0.3"})
    site.send(*(encode(*document) for document in disturbed))
    first.wait_until(lambda beat: beat.frames >= KILLED_AFTER)
    catalogue = site.catalogue()
    wait_for(lambda: stored_frames(catalogue, disturbed[0][1]["uid"]) > 0)
    first.kill()
    second = site.consumer("second", **{FACTORY: FILM})
    site.send(*(encode(*document) for document in whole))
    site.await_committed()
    assert second.beat().frames < 2 * FRAMES  # what the first one had stored was not done again
    tables = []
    for documents in (disturbed, whole):
        run = assert_whole(catalogue, documents[0][1]["uid"], FRAMES)
        tables.append([stored(run, "peaks", "peak"), stored(run, "courses", "track")])
    assert_followed(*tables[1])
    for found, wanted in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(found, wanted)
    assert second.end() == 0


def stored(run: Any, stream: str, key: str) -> pd.DataFrame:
    rows = run[stream].base["internal"].read()
    own = [name for name in rows if name in ("seq_num", "time") or name.startswith("ts_")]
    return rows.drop(columns=own).sort_values(["frame", key], ignore_index=True)

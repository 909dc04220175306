"""`gixi-bluesky consume` as it is installed: files of a beamline, real detector, signals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from kafka_site import Site, assert_whole, wait_for
from raw_runs import hdf5_run, write_hdf5
from served import KEY, stored_frames

from gixi_bluesky.callbacks.kafka.heartbeat import read_heartbeat
from gixi_bluesky.callbacks.kafka.wire import encode
from gixi_bluesky.tiled_adapters import queries

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FRAMES = 4


@pytest.fixture
def site(kafka_site: Site) -> Site:
    return kafka_site


def start(site: Site, heartbeat: Path, *more: str, **sections: object) -> subprocess.Popen[str]:
    """Start the command with a configuration that says nothing of Kafka or Tiled."""
    tree = {
        "geometry": {
            "wavelength_angstrom": 0.6888,
            "distance_mm": 300.0,
            "pixel_size_mm": [1.0, 1.0],
            "beam_center_px": [5.0, 10.0],
        },
        "grid": {"q_max_inv_angstrom": 2.0, "shape": [32, 64]},
        "detector": {"weights": "classical"},
        "output": {"directory": str(site.server.directory / "results"), "flush_s": 0.1},
        "input": {
            "roots": [str(site.folder)],
            "root_map": {"/beamline": str(site.folder)},
            "file_timeout_s": 600,
        },
        "kafka": {"session_s": 6, "options": {"heartbeat.interval.ms": 300}},
        **sections,
    }
    path = heartbeat.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "gixi_bluesky", "consume"]
    command += ["--bootstrap", site.bootstrap, "--topic", site.topic, "--group", site.group]
    command += ["--tiled", site.server.uri, "--config", str(path), "--heartbeat", str(heartbeat)]
    return subprocess.Popen(
        [*command, *more],
        env={**os.environ, "TILED_API_KEY": KEY},
        stderr=subprocess.PIPE,
        text=True,
    )


def state(heartbeat: Path, process: subprocess.Popen[str]) -> str:
    assert process.poll() is None, process.communicate()
    with contextlib.suppress(OSError):
        return read_heartbeat(heartbeat).state
    return ""


def test_files_of_the_beamline_are_analysed_here(site: Site) -> None:
    """Named by the beamline's paths, written after they were announced; one leads elsewhere."""
    frames = np.random.default_rng(1).poisson(50, (FRAMES, 60, 80)).astype("<u2")
    site.create(partitions=2)
    here = site.folder / "film.h5"
    documents = hdf5_run(here, frames)
    here.rename(site.folder / "later.h5")
    elsewhere = hdf5_run(site.folder / "film-2.h5", frames)
    for name, doc in (*documents, *elsewhere):
        if name == "stream_resource":
            doc["uri"] = doc["uri"].replace(str(site.folder), "/beamline")
    for name, doc in elsewhere:
        if name == "stream_resource":
            doc["uri"] = "file://localhost/etc/passwd"
    with start(site, site.folder / "first.json", "--from", "earliest") as process:
        for number, run in enumerate((documents, elsewhere)):
            site.send(*(encode(*document) for document in run), partition=number)
        wait_for(lambda: state(site.folder / "first.json", process) == "running")
        (site.folder / "later.h5").rename(here)
        site.await_committed()
        catalogue = site.catalogue()
        run = assert_whole(catalogue, documents[0][1]["uid"], FRAMES)
        assert run.metadata["start"]["gixi"]["provenance"]["weights_name"] == "classical"
        assert run["images"].read()["polar_image"].values.shape == (FRAMES, 32, 64)
        (refused,) = queries.runs_for(catalogue, elsewhere[0][1]["uid"])
        rows = refused["frames"].base["internal"].read()
        assert set(rows["status"]) == {"unavailable"}
        assert "outside the roots" in rows["reason"][0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(180) == 0
    beat = read_heartbeat(site.folder / "first.json")
    assert (beat.state, beat.frames) == ("stopped", 2 * FRAMES)
    assert KEY not in (site.folder / "first.json").read_text()


def test_a_second_ctrl_c_stops_at_once_and_nothing_is_lost(site: Site) -> None:
    frames = np.random.default_rng(2).poisson(50, (FRAMES, 60, 80)).astype("<u2")
    site.create(partitions=1)
    documents = hdf5_run(site.folder / "waits.h5", frames)
    (site.folder / "waits.h5").rename(site.folder / "whole.h5")
    write_hdf5(site.folder / "waits.h5", frames[:1])
    with start(site, site.folder / "second.json", "--from", "earliest") as process:
        wait_for(lambda: state(site.folder / "second.json", process) == "running")
        site.send(*(encode(*document) for document in documents))
        # The second frame was taken with the first; its image is not there for a long time.
        catalogue, uid = site.catalogue(), documents[0][1]["uid"]
        wait_for(lambda: stored_frames(catalogue, uid) == 1)
        assert site.metrics(port(site, "second"))["gixi_queue_held_frames"] > 0
        process.send_signal(signal.SIGUSR1)
        wait_for(lambda: state(site.folder / "second.json", process) == "draining")
        # Slurm and the job's shell both tell it: that is no hurry.
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(180) == -signal.SIGINT  # not 0, as after the drain
    (site.folder / "whole.h5").replace(site.folder / "waits.h5")
    with start(site, site.folder / "third.json") as process:
        site.await_committed()
        assert_whole(site.catalogue(), documents[0][1]["uid"], FRAMES)
        process.send_signal(signal.SIGINT)
        assert process.wait(180) == 0


def port(site: Site, name: str) -> int | None:
    return read_heartbeat(site.folder / f"{name}.json").metrics_port


@pytest.mark.parametrize(
    ("sections", "more", "reported"),
    [
        ({"input": {}}, (), "give input.roots"),
        ({}, ("--topic", "absent"), "absent, or does not show it"),
        ({}, ("--from", "yesterday"), "expected latest, earliest or a time"),
        ({}, ("--bootstrap", "127.0.0.1:1"), "cannot use the Kafka broker"),
        ({"kafka": {"options": {"compression.codec": "none", "no.such": 1}}}, (), "no.such"),
    ],
)
def test_a_wrong_set_up_fails_at_once_with_the_remedy(
    site: Site, sections: dict[str, object], more: tuple[str, ...], reported: str
) -> None:
    with start(site, site.folder / "wrong.json", *more, **sections) as process:
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert reported in errors
    assert "Traceback" not in errors

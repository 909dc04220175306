"""How a consumer is, from what Slurm says and what its heartbeat says."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from gixi_bluesky.callbacks.kafka.heartbeat import Heartbeat, write_heartbeat
from gixi_bluesky.callbacks.slurm.batch_script import heartbeat_file
from gixi_bluesky.callbacks.slurm.job_arrays import ArrayTask, Submission
from gixi_bluesky.callbacks.slurm.status import (
    STALE_S,
    consumer_of,
    prometheus_targets,
    write_targets,
)


def beat(folder: Path, task: int, age_s: float = 0.0, last_error: str = "") -> None:
    write_heartbeat(
        heartbeat_file(folder, task),
        Heartbeat(
            pid=7,
            host=f"n{task}",
            time=time.time() - age_s,
            state="running",
            group="live",
            topics=("raw",),
            metrics_port=9000 + task,
            partitions=("raw:0",),
            lag=3,
            frames=40,
            frames_per_second=2.5,
            last_error=last_error,
        ),
    )


def test_a_running_consumer_reports_how_far_it_is(tmp_path: Path) -> None:
    beat(tmp_path, 1)
    reported = consumer_of(tmp_path, ArrayTask(1, "RUNNING", node="n1", restarts=2)).as_json()
    assert (reported["lag"], reported["frames"], reported["frames_per_second"]) == (3, 40, 2.5)
    assert (reported["node"], reported["restarts"], reported["partitions"]) == ("n1", 2, ["raw:0"])
    assert reported["heartbeat_age_s"] < STALE_S
    assert (reported["stale"], reported["problem"]) == (False, "")
    json.dumps(reported, allow_nan=False)


def test_an_old_heartbeat_is_marked_with_its_age(tmp_path: Path) -> None:
    beat(tmp_path, 0, age_s=70)
    consumer = consumer_of(tmp_path, ArrayTask(0, "RUNNING", node="n0"))
    assert consumer.stale
    assert consumer.problem == "no heartbeat for 70 s"


def test_a_consumer_that_waits_for_its_next_start_has_no_problem(tmp_path: Path) -> None:
    beat(tmp_path, 0, age_s=70)
    consumer = consumer_of(tmp_path, ArrayTask(0, "PENDING", "BeginTime", restarts=1))
    assert consumer.stale
    assert consumer.problem == ""


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (ArrayTask(0, "RUNNING", node="n0"), "no heartbeat yet"),
        (ArrayTask(0, "FAILED", "NonZeroExitCode", "n0"), "it never began; see"),
        (ArrayTask(0, "FAILED", "JobLaunchFailure", "n0"), "a file system that every node sees"),
        (ArrayTask(0, "PENDING", "Resources"), ""),
        (ArrayTask(0, "PENDING", "JobHeldAdmin", restarts=1), "scontrol release"),
    ],
)
def test_without_a_heartbeat_the_problem_is_what_slurm_says(
    tmp_path: Path, task: ArrayTask, said: str
) -> None:
    reported = consumer_of(tmp_path, task).as_json()
    assert said in reported["problem"] if said else reported["problem"] == ""
    assert reported["lag"] is None
    assert reported["heartbeat_age_s"] is None


def test_what_went_wrong_last_is_reported_also_after_the_end(tmp_path: Path) -> None:
    beat(tmp_path, 0, last_error="Tiled is away")
    assert consumer_of(tmp_path, ArrayTask(0, "RUNNING")).problem == "Tiled is away"
    assert "Tiled is away; see" in consumer_of(tmp_path, ArrayTask(0, "FAILED")).problem


def test_a_damaged_heartbeat_is_a_problem_not_an_error(tmp_path: Path) -> None:
    heartbeat_file(tmp_path, 0).write_text("{")
    consumer = consumer_of(tmp_path, ArrayTask(0, "RUNNING"))
    assert "is no heartbeat" in consumer.problem
    assert not consumer.stale


def test_prometheus_finds_the_consumers_that_live(tmp_path: Path) -> None:
    beat(tmp_path, 0)
    beat(tmp_path, 1, age_s=70)
    consumers = [consumer_of(tmp_path, ArrayTask(n, "RUNNING")) for n in range(3)]
    targets = prometheus_targets(Submission(tmp_path, 17, 3), consumers)
    file = tmp_path / "targets.json"
    write_targets(file, targets)
    (target,) = json.loads(file.read_text())
    assert target["targets"] == ["n0:9000"]
    assert target["labels"] == {"job": "gixi", "group": "live", "slurm_job": "17", "task": "0"}

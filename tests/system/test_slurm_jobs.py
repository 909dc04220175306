"""Consumers submitted to a real two-node Slurm: status, cancel, time limit, preemption, nodes."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

import pytest
from slurm_cluster import NODES, wait_for
from slurm_site import Job, SlurmSite, tables

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FRAMES = 3


def test_two_tasks_share_the_topic_and_drain_when_cancelled(slurm_site: SlurmSite) -> None:
    job = slurm_site.submit("shared", "--nodes", "2", "--gpus-per-node", "1")
    scan = slurm_site.publish("shared", 4, FRAMES, 0.1)
    scan.finish()
    slurm_site.await_stored(scan.runs, FRAMES)
    job.await_running(2)
    reported = job.status()
    assert [row["state"] for row in reported] == ["RUNNING", "RUNNING"]
    assert {row["node"] for row in reported} == set(NODES)
    places = sorted(place for row in reported for place in row["partitions"])
    assert places == [f"shared:{number}" for number in range(4)]
    assert not any(row["stale"] for row in reported)
    # On a busy machine the last error may be of a Tiled that was slow, until the run is stored.
    wait_for(
        lambda: all(row["lag"] == 0 and not row["problem"] for row in job.status()),
        "nothing is behind or wrong",
    )
    assert sum(row["frames"] for row in job.status()) == 4 * FRAMES

    # Prometheus finds their metrics, and the log lines name run and frame for machines.
    targets = slurm_site.folder / "targets.json"
    slurm_site.command("status", "--folder", str(job.folder), "--prometheus", str(targets))
    found = [place for target in json.loads(targets.read_text()) for place in target["targets"]]
    assert len(set(found)) == 2
    for place in found:
        port = place.rpartition(":")[2]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert b"gixi_frames_finished_total" in answer.read()
    lines = log_lines(job, 2)
    assert {line["raw_uid"] for line in lines if line["event"] == "run_stored"} == set(scan.runs)

    # A second submission from the same folder would write the same heartbeats.
    again = slurm_site.command(
        "submit",
        *map(str, ("--config", slurm_site.config, "--folder", job.folder)),
        *("--topic", "shared", "--group", "g", "--bootstrap", "h:1"),
        *("--tiled", slurm_site.server.uri),
    )
    assert again.returncode == 2
    assert "still runs in" in again.stderr

    job.cancel()
    assert {beat.state for task in range(2) if (beat := job.beat(task))} == {"stopped"}
    assert slurm_site.committed("shared") == scan.acknowledged


def log_lines(job: Job, tasks: int) -> list[dict[str, Any]]:
    """Return what consumers reported for machines."""
    lines = [line for task in range(tasks) for line in job.log(task).splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_a_consumer_goes_on_after_the_time_limit_and_on_another_node(slurm_site: SlurmSite) -> None:
    job = slurm_site.submit("limited", "--gpus-per-node", "0", "--time", "60")
    job.await_running(1)
    first = slurm_site.publish("limited", 1, FRAMES, 0.1)
    first.finish()
    slurm_site.await_stored(first.runs, FRAMES)

    # Now the end is less than two minutes away, which Slurm looks at twice a minute.
    minutes = int((time.time() - job.await_start(0, 1)) / 60) + 2
    slurm_site.scontrol("update", f"jobid={job.id}", f"timelimit={minutes}")
    wait_for(lambda: job.status()[0]["restarts"] == 1, "the time limit comes near", 300)
    assert "drained, goes on in a new start" in job.log(0)
    slurm_site.scontrol("update", f"jobid={job.id}", "timelimit=60")  # once is enough
    job.await_start(0, 2)
    second = slurm_site.publish("limited", 1, FRAMES, 0.1)
    second.finish()
    slurm_site.await_stored(second.runs, FRAMES)

    (row,) = job.status()
    node = row["node"]
    # Drained too, or it would register and be back before the job is.
    for state in ("drain", "down"):
        slurm_site.slurm.run(
            "scontrol", "update", f"nodename={node}", f"state={state}", "reason=test"
        )
    job.await_start(0, 3)
    (other,) = set(NODES) - {node}
    (row,) = job.status()
    assert (row["node"], row["restarts"]) == (other, 2)
    third = slurm_site.publish("limited", 1, FRAMES, 0.1)
    third.finish()
    slurm_site.await_stored(third.runs, FRAMES)
    job.cancel()


def test_a_preempted_consumer_drains_in_its_grace_time_and_goes_on(slurm_site: SlurmSite) -> None:
    frames = 16
    slurm_site.scontrol("update", "partitionname=gpu", "gracetime=300")
    try:
        job = slurm_site.submit("preempted", "--time", "60")
        job.await_running(1)
        scan = slurm_site.publish("preempted", 1, frames, 0.5)
        wait_for(lambda: (beat := job.beat(0)) and beat.frames > 2, "the first frames", 300)
        (row,) = job.status()
        slurm_site.preempt(row["node"])
        job.await_start(0, 2)
        scan.finish()
        slurm_site.await_stored(scan.runs, frames)
    finally:
        slurm_site.scontrol("update", "partitionname=gpu", "gracetime=0")
    (derived,) = slurm_site.derived(scan.runs[0])
    assert tables(derived)["frames"]["frame"].tolist() == list(range(frames))
    assert derived.stop["gixi"]["completeness"] == "complete"
    assert [line["event"] for line in log_lines(job, 1)].count("draining") == 1
    assert "drained, goes on in a new start" in job.log(0)
    assert job.status()[0]["restarts"] == 1
    job.cancel()
    assert slurm_site.committed("preempted") == scan.acknowledged


def test_cancel_reaches_a_job_that_has_only_just_begun(slurm_site: SlurmSite) -> None:
    job = slurm_site.submit("short", "--nodes", "2")
    states = ("squeue", "-h", "-o", "%T")
    wait_for(lambda: slurm_site.slurm.run(*states).split() == ["RUNNING"] * 2, "both run")
    job.cancel()
    assert slurm_site.slurm.run(*states) == ""


def test_a_folder_that_the_nodes_do_not_see_is_reported(slurm_site: SlurmSite) -> None:
    job = slurm_site.submit("unseen", "--sbatch=--hold")
    elsewhere = job.folder.rename(slurm_site.folder / "elsewhere")
    slurm_site.scontrol("release", str(job.id))
    wait_for(
        lambda: "JobLaunchFailure" in slurm_site.scontrol("show", "job", str(job.id)),
        "end",
    )
    elsewhere.rename(job.folder)
    (row,) = job.status()
    assert row["state"] == "FAILED"
    assert "a file system that every node sees" in row["problem"]


def test_what_slurm_refuses_is_reported_with_the_remedy(slurm_site: SlurmSite) -> None:
    where = ("--bootstrap", "h:1", "--tiled", slurm_site.server.uri, "--topic", "t", "--group", "g")
    files = ("--config", str(slurm_site.config), "--folder", str(slurm_site.folder / "refused"))
    done = slurm_site.command("submit", *where, *files, "--partition", "nonsense")
    assert done.returncode == 2
    assert "invalid partition specified: nonsense" in done.stderr
    assert "sinfo -s" in done.stderr

"""Consumers that the page's operator submits to a real two-node Slurm, and lets end."""

from __future__ import annotations

import pytest
import yaml
from kafka_broker import create_topic
from slurm_cluster import wait_for
from slurm_site import PARTITIONS, Job, SlurmSite

from gixi_bluesky.web.operate import Operation

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

TOPIC, FRAMES, SHAPE = "operated", 2, [48, 96]


def test_a_version_is_submitted_analyses_a_scan_and_drains(
    slurm_site: SlurmSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm_site.slurm.environment["SLURM_CONF"])
    create_topic(slurm_site.broker.bootstrap, TOPIC, PARTITIONS)
    tree = yaml.safe_load(slurm_site.config.read_text())
    tree["kafka"] |= {"bootstrap": slurm_site.broker.bootstrap, "topics": [TOPIC], "group": TOPIC}
    tree["tiled"]["uri"] = slurm_site.server.uri
    base = slurm_site.folder / "operated.yaml"
    base.write_text(yaml.safe_dump(tree))
    operation = Operation(base, slurm_site.folder / "operations")
    edited = operation.state()["configuration"]
    edited["grid"]["shape"] = SHAPE
    version = operation.save(edited, "operator", "a coarser grid")["number"]

    job_id = operation.submit(version, 2)["job_id"]
    job = Job(slurm_site, TOPIC, operation.jobs.consumers_folder, job_id)
    job.await_running(2)
    scan = slurm_site.publish(TOPIC, 1, FRAMES, 0.1)
    scan.finish()
    slurm_site.await_stored(scan.runs, FRAMES)
    (run,) = slurm_site.derived(scan.runs[0])
    assert run.provenance["config"]["grid"]["shape"] == SHAPE
    shown = operation.jobs.state()
    assert [task["state"] for task in shown["slurm"]["tasks"]] == ["RUNNING", "RUNNING"]
    assert sorted(log["name"] for log in shown["logs"]) == ["consumer-0", "consumer-1"]

    assert operation.jobs.cancel() == job_id
    wait_for(lambda: {task["state"] for task in job.status()} == {"COMPLETED"}, "both drain", 120)
    assert sum(task["frames"] for task in job.status()) == FRAMES
    operation.close()

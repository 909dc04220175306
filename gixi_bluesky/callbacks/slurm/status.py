"""The state of the consumers of a submission: Slurm's state and the heartbeat of each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gixi_bluesky.callbacks.kafka.heartbeat import Heartbeat, read_heartbeat
from gixi_bluesky.callbacks.slurm.batch_script import heartbeat_file, log_file
from gixi_bluesky.callbacks.slurm.job_arrays import ArrayTask, Submission, tasks_of
from gixi_bluesky.errors import DocumentError

__all__ = [
    "STALE_S",
    "ConsumerStatus",
    "consumer_of",
    "consumers_of",
    "prometheus_targets",
    "write_targets",
]

STALE_S = 60.0  # written every second, but a network file system may show it half a minute late


@dataclass(frozen=True, slots=True)
class ConsumerStatus:
    """One task and its consumer's last heartbeat, None without one; `problem` is "" if none.

    age_s: how old the heartbeat is
    """

    task: ArrayTask
    heartbeat: Heartbeat | None
    age_s: float
    problem: str

    @property
    def stale(self) -> bool:
        """True if the heartbeat is too old to describe the consumer."""
        return self.heartbeat is not None and self.age_s > STALE_S

    def as_json(self) -> dict[str, Any]:
        """Return JSON types only; values of a missing heartbeat are null."""
        beat = self.heartbeat
        return {
            "task": self.task.number,
            "state": self.task.state,
            "ended": self.task.ended,
            "reason": self.task.reason,
            "node": self.task.node,
            "restarts": self.task.restarts,
            "consumer": beat and beat.state,
            "heartbeat_age_s": beat and round(self.age_s, 1),
            "stale": self.stale,
            "partitions": beat and list(beat.partitions),
            "lag": beat and beat.lag,
            "frames": beat and beat.frames,
            "frames_per_second": beat and beat.frames_per_second,
            "last_error": beat and beat.last_error,
            "problem": self.problem,
        }


def consumers_of(submission: Submission) -> list[ConsumerStatus]:
    """Return every consumer in order. Raises SlurmError when Slurm cannot be asked."""
    return [consumer_of(submission.folder, task) for task in tasks_of(submission)]


def consumer_of(folder: Path, task: ArrayTask) -> ConsumerStatus:
    """Return the status of one task's consumer, by its heartbeat in `folder`."""
    beat, unreadable = _heartbeat(heartbeat_file(folder, task.number))
    age_s = max(time.time() - beat.time, 0.0) if beat is not None else float("inf")
    problem = unreadable or _problem(folder, task, beat, age_s)
    return ConsumerStatus(task, beat, age_s, problem)


def prometheus_targets(
    submission: Submission, consumers: Iterable[ConsumerStatus]
) -> list[dict[str, Any]]:
    """Return the metrics addresses of running consumers in the format of file_sd_configs."""
    return [
        {
            "targets": [f"{beat.host}:{beat.metrics_port}"],
            "labels": {
                "job": "gixi",
                "group": beat.group,
                "slurm_job": str(submission.job_id),
                "task": str(consumer.task.number),
            },
        }
        for consumer in consumers
        if (beat := consumer.heartbeat) is not None and beat.metrics_port and not consumer.stale
    ]


def write_targets(path: Path, targets: list[dict[str, Any]]) -> None:
    """Replace the file atomically, as Prometheus reads it whenever it changes."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(json.dumps(targets, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def _heartbeat(path: Path) -> tuple[Heartbeat | None, str]:
    try:
        return read_heartbeat(path), ""
    except FileNotFoundError:
        return None, ""
    except (OSError, DocumentError) as error:
        return None, str(error)


def _problem(folder: Path, task: ArrayTask, beat: Heartbeat | None, age_s: float) -> str:
    log = log_file(folder, task.number)
    if task.reason == "JobLaunchFailure":
        return (
            f"the node could not write {log}: submit with a --folder on a file system that every "
            "node sees"
        )
    if "held" in task.reason.lower():
        return "Slurm holds it; `scontrol release` lets it go on"
    if beat is None:
        if task.state == "RUNNING":
            return f"no heartbeat yet; {log} shows its progress"
        return f"it never began; see {log}" if task.ended else ""
    if task.state == "RUNNING" and beat.state == "starting":
        return f"starting since {age_s:.0f} s; {beat.last_error}".rstrip("; ")
    if task.state == "RUNNING" and age_s > STALE_S:
        return f"no heartbeat for {age_s:.0f} s"
    if task.state in {"FAILED", "OUT_OF_MEMORY", "TIMEOUT"}:
        return f"{beat.last_error or 'it ended by itself'}; see {log}"
    return beat.last_error

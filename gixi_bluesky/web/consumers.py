"""The files of consumers in their folder: heartbeats, Slurm jobs, logs; and their metrics."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from gixi_bluesky.callbacks.kafka.heartbeat import Heartbeat, read_heartbeat
from gixi_bluesky.callbacks.slurm.job_arrays import RECORD, Submission
from gixi_bluesky.callbacks.slurm.status import STALE_S, consumers_of
from gixi_bluesky.errors import GixiError

__all__ = ["consumers", "last_lines", "logs", "slurm_job"]

_MOST_FILES = 200
_MOST_LOGS = 12
_MOST_LINES = 20
_MOST_BYTES = 16 << 10
_METRICS_TIMEOUT_S = 1.0
# The name in the report, and the metric whose samples are added up for it.
_METRICS = {
    "queue_frames": "gixi_queue_held_frames",
    "queue_bytes": "gixi_queue_held_bytes",
    "workers": "gixi_worker_running_bool",
    "worker_restarts": "gixi_worker_restarted_total",
}


def consumers(folder: Path) -> list[dict[str, Any]]:
    """Return the heartbeats of a folder with their age in s, and the queue where it can be read.

    Files that are no heartbeats are left out.
    """
    now = time.time()
    found = [
        {
            **asdict(beat),
            "name": f"{path.stem} on {beat.host}",
            "age_s": max(0.0, now - beat.time),
        }
        for path, beat in _heartbeats(folder)
    ]
    with ThreadPoolExecutor(8) as pool:
        return [one | queue for one, queue in zip(found, pool.map(_queue, found), strict=True)]


def slurm_job(folder: Path) -> dict[str, Any] | None:
    """Return the job that was submitted from a folder with its tasks; None where there is none.

    What Slurm does not answer is a `problem` in words.
    """
    if not (folder / RECORD).exists():
        return None
    try:
        submission = Submission.of(folder)
        tasks = [one.as_json() for one in consumers_of(submission)]
    except (GixiError, OSError) as error:
        return {"job_id": None, "tasks": [], "problem": str(error)}
    return {"job_id": submission.job_id, "tasks": tasks, "problem": ""}


def logs(folder: Path) -> list[dict[str, Any]]:
    """Return the last lines of the logs of a folder, those that grew last first."""
    paths = []
    for path in folder.glob("*.log"):
        try:
            paths.append((path.stat().st_mtime, path))
        except OSError:
            continue
    newest = [path for _, path in sorted(paths, reverse=True)[:_MOST_LOGS]]
    return [{"name": path.stem, "lines": last_lines(path)} for path in newest]


def last_lines(path: Path, most: int = _MOST_LINES) -> list[str]:
    """Return the last lines of a log, none of a file that cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _MOST_BYTES))
            text = file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    return text.splitlines()[-most:]


def _heartbeats(folder: Path) -> Iterator[tuple[Path, Heartbeat]]:
    for path in sorted(folder.glob("*.json"))[:_MOST_FILES]:
        try:
            yield path, read_heartbeat(path)
        except (OSError, GixiError):
            continue


def _queue(consumer: dict[str, Any]) -> dict[str, float]:
    """Return queue and workers by a consumer's metrics, nothing where they cannot be read."""
    port = consumer["metrics_port"]
    if not port or consumer["age_s"] > STALE_S:
        return {}
    host = "127.0.0.1" if consumer["host"] == socket.gethostname() else consumer["host"]
    try:
        answer = httpx.get(f"http://{host}:{port}/metrics", timeout=_METRICS_TIMEOUT_S)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL):
        return {}
    return _sums(answer.text)


def _sums(exposition: str) -> dict[str, float]:
    """Return the sum over the samples of each metric that is there."""
    sums: dict[str, float] = {}
    for line in exposition.splitlines():
        head, _, value = line.rpartition(" ")
        for name, metric in _METRICS.items():
            if head.partition("{")[0] == metric:
                sums[name] = sums.get(name, 0.0) + float(value)
    return sums

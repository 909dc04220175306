"""Slurm through its own commands: submit an array of consumers, show it, end it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gixi_bluesky.callbacks.slurm.batch_script import ConsumerArray, batch_script
from gixi_bluesky.errors import ConfigError, SlurmError

__all__ = [
    "RECORD",
    "SCRIPT",
    "ArrayTask",
    "Submission",
    "cancel",
    "drain",
    "parse_tasks",
    "submit",
    "tasks_of",
    "write_script",
]

SCRIPT = "consume.sbatch"

RECORD = "submission.json"
_TIMEOUT_S = 60.0
_AGAIN_S = 1.0  # a signal to a job that is just being launched is lost
_ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "REVOKED",
    "TIMEOUT",
    "UNKNOWN",
}
_FIELD = re.compile(r"(?<!\S)([A-Za-z]+)=(\S*)")
_ADVICE = {
    "partition": "`sinfo -s` lists the partitions; give --partition",
    "account": "`sacctmgr show assoc user=$USER` lists yours; give slurm.account",
    "qos": "`sacctmgr show assoc user=$USER format=qos%60` lists yours; give slurm.qos",
    "time limit": "give --time within the partition's limit (`sinfo -o '%P %l'`)",
    "contact": "the controller does not answer; is this a node of the cluster?",
    "gres": "`sinfo -o '%P %G'` lists GPUs; --gpus-per-node 0 asks for none",
    "node configuration": "`sinfo -o '%P %G %c'` lists GPUs and cores of the nodes",
}


@dataclass(frozen=True, slots=True)
class Submission:
    """The record in a folder of the job that was submitted from it."""

    folder: Path
    job_id: int
    tasks: int

    @classmethod
    def of(cls, folder: Path) -> Submission:
        """Read the folder's record. Raises ConfigError when nothing was submitted from it."""
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            return cls(folder, int(record["job_id"]), int(record["tasks"]))
        except FileNotFoundError as error:
            message = f"nothing was submitted from {folder}; give --folder as to `slurm submit`"
            raise ConfigError(message) from error
        except (ValueError, KeyError, TypeError) as error:
            message = f"{folder / RECORD} is damaged: {error}; `squeue --me` shows your jobs"
            raise ConfigError(message) from error

    def write(self) -> None:
        """Put the record into the folder."""
        record = {"job_id": self.job_id, "tasks": self.tasks}
        (self.folder / RECORD).write_text(json.dumps(record), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class ArrayTask:
    """One task of an array; `state` is UNKNOWN once Slurm has purged it."""

    number: int
    state: str
    reason: str = ""
    node: str = ""
    restarts: int = 0

    @property
    def ended(self) -> bool:
        """True if it will not run again."""
        return self.state in _ENDED


def write_script(array: ConsumerArray) -> Path:
    """Write the batch script into the array's folder. Raises ConfigError, OSError."""
    text = batch_script(array)
    array.folder.mkdir(parents=True, exist_ok=True)
    path = array.folder / SCRIPT
    path.write_text(text, encoding="utf-8")
    return path


def submit(array: ConsumerArray) -> Submission:
    """Write the script and submit it. Raises ConfigError, SlurmError with what sbatch said.

    A folder serves one job at a time: its consumers' logs and heartbeats lie there.
    """
    if (array.folder / RECORD).exists():
        before = Submission.of(array.folder)
        if not all(task.ended for task in tasks_of(before)):
            message = (
                f"job {before.job_id} still runs in {array.folder}; `slurm cancel` it, or give "
                "another --folder"
            )
            raise SlurmError(message)
    write_script(array)
    for old in array.folder.glob("consumer-*.json"):
        old.unlink()
    output = _run("sbatch", "--parsable", SCRIPT, folder=array.folder)
    submission = Submission(array.folder, int(output.split(";")[0]), array.tasks)
    submission.write()
    return submission


def tasks_of(submission: Submission) -> list[ArrayTask]:
    """Return every task in order. Raises SlurmError when Slurm cannot be asked."""
    known = parse_tasks(
        _run_unless_gone("scontrol", "--oneliner", "show", "job", str(submission.job_id))
    )
    return [known.get(n, ArrayTask(n, "UNKNOWN")) for n in range(submission.tasks)]


def drain(
    submission: Submission, timeout_s: float, report: Callable[[Sequence[ArrayTask]], None]
) -> bool:
    """Drain running consumers and remove pending tasks; return whether all ended.

    report: called repeatedly with the tasks that are left
    Raises SlurmError when Slurm refuses twice while the same tasks are left.
    """
    job = str(submission.job_id)
    deadline = time.monotonic() + timeout_s
    refused_for: list[ArrayTask] = []
    while left := [task for task in tasks_of(submission) if not task.ended]:
        report(left)
        if time.monotonic() > deadline:
            return False
        try:
            _signal_drain(job, {task.state for task in left})
        except SlurmError:
            # scancel also refuses, without a word, for a task that ends at this moment.
            if left == refused_for:
                raise
            refused_for = left
        time.sleep(_AGAIN_S)
    return True


def _signal_drain(job: str, states: set[str]) -> None:
    if states - {"RUNNING", "COMPLETING"}:
        _run_unless_gone("scancel", "--state=PENDING", job)
    if "RUNNING" in states:
        _run_unless_gone("scancel", "--state=RUNNING", "--batch", "--signal=TERM", job)


def cancel(submission: Submission) -> None:
    """End every task now: SIGTERM, and SIGKILL after the cluster's KillWait."""
    _run_unless_gone("scancel", str(submission.job_id))


def parse_tasks(output: str) -> dict[int, ArrayTask]:
    """Return the tasks in the output of `scontrol --oneliner show job`, by number."""
    tasks = {}
    for line in output.splitlines():
        # The job's name and paths may hold anything, so the rest of those fields is not read.
        head, _, rest = line.partition(" JobName=")
        ids = dict(_FIELD.findall(head))
        fields = dict(_FIELD.findall(rest.partition(" UserId=")[2].partition(" Command=")[0]))
        # One line stands for all tasks that wait.
        for number in _numbers(ids.get("ArrayTaskId", "")):
            tasks[number] = ArrayTask(
                number,
                state=fields.get("JobState", "UNKNOWN"),
                reason=_value(fields.get("Reason", "")),
                node=_value(fields.get("NodeList", "")),
                restarts=int(fields.get("Restarts", "0")),
            )
    return tasks


def _value(text: str) -> str:
    return "" if text in {"None", "(null)", "N/A"} else text


def _numbers(text: str) -> Iterator[int]:
    """Yield the numbers of `3`, of `0-3,7` and of `0-8:2%4`."""
    for part in text.partition("%")[0].split(","):
        ends, _, step = part.partition(":")
        first, _, last = ends.partition("-")
        if first:
            yield from range(int(first), int(last or first) + 1, int(step or 1))


def _run_unless_gone(program: str, *arguments: str) -> str:
    """Return the output of a command for a job, "" if Slurm has purged the job."""
    try:
        return _run(program, *arguments)
    except SlurmError as error:
        if "Invalid job id" in str(error):
            return ""
        raise


def _run(program: str, *arguments: str, folder: Path | None = None) -> str:
    """Return the output of a Slurm command. Raises SlurmError with its message and advice."""
    # SBATCH_… would override the script; long lists of tasks are not to be shortened.
    environment = {key: value for key, value in os.environ.items() if key[:7] != "SBATCH_"}
    environment["SLURM_BITSTR_LEN"] = "0"
    try:
        done = subprocess.run(  # noqa: S603 - no shell, a command of Slurm
            [program, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except FileNotFoundError as error:
        message = f"there is no {program} here; run this where Slurm's commands are: a login node"
        raise SlurmError(message) from error
    except subprocess.TimeoutExpired as error:
        message = f"{program} did not answer within {_TIMEOUT_S:.0f} s; is the controller up?"
        raise SlurmError(message) from error
    if done.returncode:
        raise SlurmError(_refusal(program, done.stderr.strip()))
    return done.stdout


def _refusal(program: str, complaint: str) -> str:
    advice = next((text for word, text in _ADVICE.items() if word in complaint.lower()), "")
    return f"{program} refused: {complaint or 'it said nothing'}" + (
        f"\n{advice}" if advice else ""
    )

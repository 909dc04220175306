"""What Slurm says of jobs, in the words of its versions, and what is said when it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from gixi_bluesky.callbacks.settings import SlurmSettings
from gixi_bluesky.callbacks.slurm.batch_script import ConsumerArray
from gixi_bluesky.callbacks.slurm.job_arrays import (
    ArrayTask,
    Submission,
    drain,
    parse_tasks,
    submit,
    tasks_of,
)
from gixi_bluesky.errors import ConfigError, SlurmError

# 22.05.8
RUNNING = (
    "JobId=6 ArrayJobId=5 ArrayTaskId=0 JobName=gixi UserId=me(1) GroupId=me(1) MCS_label=N/A "
    "Priority=1 Nice=0 Account=(null) QOS=(null) JobState=RUNNING Reason=None Dependency=(null) "
    "Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=0:0 RunTime=00:00:02 TimeLimit=01:00:00 "
    "Scheduler=Backfill Partition=gpu AllocNode:Sid=localhost:3150 ReqNodeList=n7 "
    "ExcNodeList=n8 NodeList=n3 BatchHost=n3 NumNodes=1 NumCPUs=1 "
    "Command=/data/JobState=X NodeList=n9/consume.sbatch WorkDir=/data Power= "
)
WAITING = (
    "JobId=5 ArrayJobId=5 ArrayTaskId=1-3,5%2 JobName=gixi UserId=me(1) GroupId=me(1) "
    "JobState=PENDING Reason=Resources Dependency=(null) Requeue=1 Restarts=0 "
    "Partition=gpu ReqNodeList=(null) ExcNodeList=(null) NodeList= NumNodes=1 "
    "Command=/data/consume.sbatch"
)
# 24.05 has more fields, and a job may be named as it likes.
NEWER = (
    "JobId=9 ArrayJobId=5 ArrayTaskId=4 JobName=x JobState=FAILED UserId=me(1) GroupId=me(1) "
    "MCS_label=N/A Priority=1 Nice=0 Account=xray QOS=normal JobState=COMPLETING Reason=None "
    "Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0 Partition=gpu "
    "NodeList=n4 BatchHost=n4 StepMgrEnabled=Yes NumNodes=1 ReqTRES=cpu=1 AllocTRES=cpu=1 "
    "Command=/data/consume.sbatch WorkDir=/data"
)


def test_running_and_waiting_tasks_are_reported_one_by_one() -> None:
    found = parse_tasks("\n".join((RUNNING, WAITING, NEWER)))
    assert found[0] == ArrayTask(0, "RUNNING", "", "n3", 2)
    assert [number for number, task in found.items() if task.state == "PENDING"] == [1, 2, 3, 5]
    assert found[1].reason == "Resources"
    assert found[4] == ArrayTask(4, "COMPLETING", "", "n4", 0)


@pytest.mark.parametrize(
    ("written", "numbers"), [("7", [7]), ("0-8:4", [0, 4, 8]), ("1,3-4%1", [1, 3, 4])]
)
def test_lists_of_tasks_are_read_as_slurm_writes_them(written: str, numbers: list[int]) -> None:
    assert list(parse_tasks(WAITING.replace("1-3,5%2", written))) == numbers


def test_nothing_said_is_no_task() -> None:
    assert parse_tasks("") == {}
    assert parse_tasks("No jobs in the system\n") == {}


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ("RUNNING", False),
        ("PENDING", False),
        ("COMPLETING", False),
        ("COMPLETED", True),
        ("TIMEOUT", True),
        ("NODE_FAIL", True),
        ("UNKNOWN", True),
    ],
)
def test_a_task_has_ended_when_it_will_not_run_again(state: str, ended: bool) -> None:
    assert ArrayTask(0, state).ended is ended


def test_a_folder_remembers_its_submission(tmp_path: Path) -> None:
    Submission(tmp_path, 17, 4).write()
    assert Submission.of(tmp_path) == Submission(tmp_path, 17, 4)


@pytest.mark.parametrize(("record", "said"), [(None, "--folder"), ("{", "damaged")])
def test_a_folder_without_a_submission_is_reported(
    tmp_path: Path, record: str | None, said: str
) -> None:
    if record is not None:
        (tmp_path / "submission.json").write_text(record)
    with pytest.raises(ConfigError, match=said):
        Submission.of(tmp_path)


def test_without_slurm_the_message_says_where_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    array = ConsumerArray(tmp_path / "job", 1, False, 1, (), SlurmSettings(), "python")
    with pytest.raises(SlurmError, match=r"no sbatch here; .* a login node"):
        submit(array)
    with pytest.raises(SlurmError, match="no scontrol here"):
        tasks_of(Submission(tmp_path, 1, 1))


def slurm_that_refuses(folder: Path, answers: list[str]) -> None:
    """Put a `scancel` there that always fails, and a `scontrol` that gives one answer a call."""
    for number, answer in enumerate(answers):
        (folder / f"answer-{number}").write_text(answer)
    says = f"""n=$(cat {folder}/asked 2>/dev/null || echo 0)
echo $((n + 1)) > {folder}/asked
[ -f {folder}/answer-$n ] || n={len(answers) - 1}
cat {folder}/answer-$n"""
    for name, script in (("scancel", "exit 1"), ("scontrol", says)):
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("gixi_bluesky.callbacks.slurm.job_arrays._AGAIN_S", 0.0)
    return tmp_path


def test_a_task_that_ends_while_it_is_signalled_is_drained(programs: Path) -> None:
    ended = RUNNING.replace("JobState=RUNNING", "JobState=COMPLETED")
    slurm_that_refuses(programs, [RUNNING, ended])
    assert drain(Submission(programs, 5, 1), 60, lambda left: None)


def test_a_refusal_that_changes_nothing_is_an_error(programs: Path) -> None:
    slurm_that_refuses(programs, [RUNNING])
    with pytest.raises(SlurmError, match="scancel refused: it said nothing"):
        drain(Submission(programs, 5, 1), 60, lambda left: None)

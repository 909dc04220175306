"""The batch script: what it asks of Slurm, what reaches the consumer, when it starts another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_until

from gixi_bluesky.callbacks.settings import SlurmSettings
from gixi_bluesky.callbacks.slurm.batch_script import ConsumerArray, batch_script, heartbeat_file
from gixi_bluesky.errors import ConfigError

# Stands where Python would: prints its arguments, beats, and ends on request.
CONSUMER = """\
#!{python}
import os, pathlib, signal, sys, time
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
here = pathlib.Path({folder!r})
(here / "arguments").write_bytes(b"\\0".join(map(os.fsencode, sys.argv[1:])))
if os.environ.get("BEAT"):
    pathlib.Path(sys.argv[-1]).touch()
(here / "ready").touch()
while not stopping and "STATUS" not in os.environ:
    time.sleep(0.01)
(here / "draining").touch()
while "DRAINS" in os.environ and not (here / "go on").exists():
    time.sleep(0.01)
sys.exit(int(os.environ.get("STATUS", "0")))
"""
# Tells what it was asked for, in place of Slurm's: these tests are of the shell's decisions.
REQUEUE = """\
#!/bin/bash
echo "$@" > {folder}/requeued
"""


def array(place: Path, **changes: object) -> ConsumerArray:
    values: dict[str, object] = {
        "folder": place,
        "tasks": 4,
        "gpus": True,
        "cpus": 2,
        "consume": ("--topic", "raw"),
        "settings": SlurmSettings(),
        "python": sys.executable,
    }
    return ConsumerArray(**{**values, **changes})  # type: ignore[arg-type]


def directives(script: str) -> list[str]:
    return [line[8:] for line in script.splitlines() if line.startswith("#SBATCH ")]


class Job:
    """The script running as Slurm would run it, as task 2 of job 40."""

    def __init__(self, folder: Path, prologue: tuple[str, ...] = (), **environment: str) -> None:
        self.folder = folder
        for name, text in (("python", CONSUMER), ("scontrol", REQUEUE)):
            path = folder / name
            path.write_text(text.format(python=sys.executable, folder=str(folder)))
            path.chmod(0o755)
        script = folder / "script"
        job = array(
            folder,
            python=str(folder / "python"),
            settings=SlurmSettings(prologue=prologue),
        )
        script.write_text(batch_script(job))
        variables = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "SLURM_ARRAY_JOB_ID": "40",
            "SLURM_ARRAY_TASK_ID": "2",
            "SLURMD_NODENAME": "here",
        }
        self.process = subprocess.Popen(
            ["bash", str(script)], cwd=folder, env={**variables, **environment}
        )

    def tell(self, number: int) -> None:
        wait_until(lambda: (self.folder / "ready").exists() or self.process.poll() is not None)
        assert self.process.poll() is None
        self.process.send_signal(number)

    def ended(self) -> int:
        return self.process.wait(120)

    @property
    def requeued(self) -> str:
        file = self.folder / "requeued"
        return file.read_text().strip() if file.exists() else ""


def test_the_head_asks_for_one_gpu_a_task_and_to_be_signalled_in_time(tmp_path: Path) -> None:
    asked = directives(batch_script(array(tmp_path)))
    assert {"--array=0-3", "--gres=gpu:1", "--ntasks=1", "--requeue"} <= set(asked)
    assert {"--signal=B:USR1@120", "--open-mode=append", "--export=NONE"} <= set(asked)


def test_cpu_nodes_are_not_asked_for_gpus(tmp_path: Path) -> None:
    script = batch_script(array(tmp_path, gpus=False))
    assert "gres" not in script
    assert "gpu:" not in script


def test_what_a_site_wants_comes_last_and_so_wins(tmp_path: Path) -> None:
    site = SlurmSettings(
        partition="gpu", time="1-00:00:00", account="x ray", sbatch=("--gres=gpu:a100:1",)
    )
    asked = directives(batch_script(array(tmp_path, settings=site)))
    assert {"--partition=gpu", "--time=1-00:00:00", "--account='x ray'"} <= set(asked)
    assert asked[-1] == "--gres=gpu:a100:1"


words = st.text(
    st.characters(
        codec="utf-8", exclude_categories=("C", "Zl", "Zp", "Zs"), include_characters=" "
    ),
    min_size=1,
)


@settings(max_examples=25)
@given(words=st.lists(words, max_size=4), name=words.filter(lambda n: not set(n) & set("%\\/")))
def test_every_word_reaches_the_consumer_as_it_was_given(words: list[str], name: str) -> None:
    words = [word for word in words if "://" not in word]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / f"in {name[:40]}"
        folder.mkdir()
        script = folder / "script"
        script.write_text(
            batch_script(array(folder, consume=tuple(words), python="/usr/bin/printf"))
            # printf takes its format where Python takes -m gixi_bluesky and the log options
            .replace("-m gixi_bluesky --log-level info --log-format json consume\n", "'%s\\0'\n")
        )
        subprocess.run(["bash", "-n", str(script)], check=True)
        done = subprocess.run(
            ["bash", str(script)],
            env={"SLURM_ARRAY_TASK_ID": "0", "PATH": os.environ["PATH"], "SLURMD_NODENAME": ""},
            capture_output=True,
            check=True,
        )
        *got, option, beat = done.stdout.decode().rstrip("\0").split("\0")
        assert got == (words or [])
        assert (option, beat) == ("--heartbeat", str(heartbeat_file(folder, 0)))


@pytest.mark.parametrize(
    "changes",
    [
        {"consume": ("--topic", "raw\nscancel 1")},
        {"folder": Path("/data/%a")},
        {"folder": Path("/data/a\\b")},
        {"settings": SlurmSettings(partition="gpu\n#SBATCH --uid=0")},
        {"settings": SlurmSettings(sbatch=("--output=/dev/null",))},
        {"settings": SlurmSettings(sbatch=("--mem=1G --array=0-9",))},
        {"settings": SlurmSettings(sbatch=("-a0-9",))},
        {"settings": SlurmSettings(sbatch=("rm -rf",))},
        {"settings": SlurmSettings(sbatch=("--comment='",))},
        {"settings": SlurmSettings(prologue=("module load cuda\r",))},
        {"consume": ("--tiled", "http://host/api/v1?api_key=abc")},
        {"consume": ("--tiled", "http://user:word@host/api/v1")},
    ],
    ids=str,
)
def test_what_cannot_stand_in_the_script_is_refused(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    with pytest.raises(ConfigError) as refused:
        batch_script(array(tmp_path, **changes))
    assert "abc" not in str(refused.value)
    assert "word@" not in str(refused.value)


def test_the_consumer_hears_all_of_its_command(tmp_path: Path) -> None:
    job = Job(tmp_path, STATUS="0")
    assert job.ended() == 0
    arguments = (tmp_path / "arguments").read_text().split("\0")
    assert arguments[:2] == ["-m", "gixi_bluesky"]
    assert arguments[-4:] == ["--topic", "raw", "--heartbeat", str(heartbeat_file(tmp_path, 2))]


def test_term_drains_the_consumer_and_the_job_is_done(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.tell(signal.SIGTERM)
    assert job.ended() == 0
    assert not job.requeued


def test_usr1_drains_the_consumer_and_the_task_goes_on_later(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.tell(signal.SIGUSR1)
    assert job.ended() == 0
    assert job.requeued == "requeue 40_2"


def test_a_cancel_that_comes_while_the_time_limit_drains_holds(tmp_path: Path) -> None:
    job = Job(tmp_path, DRAINS="yes")
    job.tell(signal.SIGUSR1)
    wait_until((job.folder / "draining").exists)
    job.tell(signal.SIGTERM)
    (tmp_path / "go on").touch()
    assert job.ended() == 0
    assert not job.requeued


def test_signalled_before_it_began_the_consumer_is_not_started(tmp_path: Path) -> None:
    waits = f"until [ -e '{tmp_path}/go on' ]; do sleep 0.05; done"
    job = Job(tmp_path, prologue=(f"touch {tmp_path}/ready", waits))
    job.tell(signal.SIGTERM)
    (tmp_path / "go on").touch()
    assert job.ended() == 0
    assert not (tmp_path / "arguments").exists()


@pytest.mark.parametrize(
    ("status", "beat", "starts_before", "again"),
    [
        ("137", "yes", "", True),
        ("1", "yes", "", True),
        ("2", "yes", "", False),
        ("137", "", "", False),
        ("2", "", "1", True),
    ],
)
def test_a_consumer_that_died_is_started_again_unless_it_would_die_again(
    tmp_path: Path, status: str, beat: str, starts_before: str, again: bool
) -> None:
    job = Job(tmp_path, STATUS=status, BEAT=beat, SLURM_RESTART_COUNT=starts_before)
    assert job.ended() == int(status)
    assert job.requeued == ("requeue 40_2" if again else "")

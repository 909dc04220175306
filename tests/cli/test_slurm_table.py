"""What `slurm status` shows to people."""

from __future__ import annotations

from rich.console import Console

from gixi_bluesky.callbacks.kafka.heartbeat import Heartbeat
from gixi_bluesky.callbacks.slurm.job_arrays import ArrayTask
from gixi_bluesky.callbacks.slurm.status import ConsumerStatus
from gixi_bluesky.cli.slurm_table import consumer_table

BEAT = Heartbeat(
    pid=1,
    host="n1",
    time=0.0,
    state="running",
    group="live",
    topics=("raw",),
    lag=12,
    frames=345,
    frames_per_second=6.7,
)


def shown(*consumers: ConsumerStatus) -> list[list[str]]:
    console = Console(width=200)
    with console.capture() as text:
        console.print(consumer_table(17, consumers))
    return [line.split() for line in text.get().splitlines() if line.strip().startswith("17_")]


def test_a_row_reports_job_and_consumer() -> None:
    task = ArrayTask(3, "RUNNING", "", "n1", restarts=1)
    (row,) = shown(ConsumerStatus(task, BEAT, 0.4, ""))
    assert row == ["17_3", "RUNNING", "n1", "2", "12", "345", "6.7", "0"]


def test_an_old_heartbeat_stands_in_parentheses() -> None:
    task = ArrayTask(0, "RUNNING", "", "n1")
    (row,) = shown(ConsumerStatus(task, BEAT, 70.0, "no heartbeat for 70 s"))
    assert row[4:8] == ["(12)", "(345)", "(6.7)", "(70)"]
    assert " ".join(row[8:]) == "no heartbeat for 70 s"


def test_what_others_wrote_is_shown_as_it_is() -> None:
    task = ArrayTask(0, "PENDING", "[bold]Resources[/]")
    (row,) = shown(ConsumerStatus(task, None, float("inf"), "[red]no[/]"))
    assert row == ["17_0", "PENDING", "([bold]Resources[/])", "[red]no[/]"]

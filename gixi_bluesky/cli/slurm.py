"""`slurm submit|status|cancel`: Kafka consumers as jobs of a Slurm cluster."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gixi_bluesky.cli.console import output, print_json, say
from gixi_bluesky.cli.options import ConfigFile, JsonLines
from gixi_bluesky.cli.slurm_table import consumer_table
from gixi_bluesky.plurals import counted

if TYPE_CHECKING:
    from gixi_bluesky.callbacks.settings import SlurmSettings
    from gixi_bluesky.callbacks.slurm.job_arrays import ArrayTask

__all__ = ["slurm_app"]

slurm_app = typer.Typer(
    name="slurm", help="Kafka consumers as jobs of a Slurm cluster.", no_args_is_help=True
)

Folder = Annotated[
    Path,
    typer.Option(
        metavar="DIR", help="The job's scripts, logs and heartbeats; every node must see it."
    ),
]
_FOLDER = Path("gixi-slurm")


@slurm_app.command()
def submit(
    config: ConfigFile,
    bootstrap: Annotated[
        str | None, typer.Option(metavar="HOST:PORT,…", help="Brokers; replaces kafka.bootstrap.")
    ] = None,
    topic: Annotated[
        list[str] | None, typer.Option(help="Instead of kafka.topics; may be given again.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Consumer group, which shares the partitions.")
    ] = None,
    tiled: Annotated[
        str | None, typer.Option(metavar="URI", help="Server, instead of tiled.uri.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="latest|earliest|TIME", help="Where a new group starts."),
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Number of nodes that run consumers.")] = 1,
    gpus_per_node: Annotated[
        int,
        typer.Option(
            min=0, help="GPUs a node, one consumer each; 0: one consumer a node, on its CPU."
        ),
    ] = 1,
    partition: Annotated[str | None, typer.Option(help="Instead of slurm.partition.")] = None,
    time: Annotated[
        str | None, typer.Option(metavar="LIMIT", help="As 1-00:00:00; instead of slurm.time.")
    ] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OPTION", help="Another option of sbatch: --sbatch=--constraint=a100."
        ),
    ] = None,
    folder: Folder = _FOLDER,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only write the script.")] = False,
    json: JsonLines = False,
) -> None:
    """Write the batch script of consumers into a folder and submit it.

    The consumers share the topic's partitions and continue after preemption, requeue and the time
    limit.
    """
    from gixi_bluesky.callbacks.slurm import job_arrays as slurm
    from gixi_bluesky.callbacks.slurm.batch_script import ConsumerArray
    from gixi_bluesky.checks.consumer_jobs import require_complete, require_keys
    from gixi_bluesky.config import load_config

    settings = load_config(config)
    require_keys(settings)
    require_complete(settings, bootstrap, topic or (), tiled)
    given = [("--bootstrap", bootstrap), ("--group", group), ("--tiled", tiled), ("--from", start)]
    given += [("--topic", name) for name in topic or ()]
    consume = ["--config", str(config.absolute())]
    consume += [word for name, value in given if value is not None for word in (name, value)]
    array = ConsumerArray(
        folder=folder.absolute(),
        tasks=nodes * max(gpus_per_node, 1),
        gpus=gpus_per_node > 0,
        cpus=settings.queue.worker_threads + 1,
        consume=tuple(consume),
        settings=_asked(settings.slurm, partition, time, sbatch or []),
        python=sys.executable,
        import_path=os.environ.get("PYTHONPATH", ""),
    )
    if dry_run:
        script, job_id = slurm.write_script(array), None
        say(f"wrote {script}, submitted nothing")
    else:
        job_id = slurm.submit(array).job_id
        script = array.folder / slurm.SCRIPT
        tasks = counted(array.tasks, "consumer")
        say(f"submitted job {job_id}, {tasks}; logs and heartbeats: {array.folder}")
    if json:
        print_json({"job_id": job_id, "script": str(script), "tasks": array.tasks})
    elif dry_run:
        typer.echo(script.read_text(encoding="utf-8"), nl=False)


def _asked(
    settings: SlurmSettings, partition: str | None, time: str | None, sbatch: Sequence[str]
) -> SlurmSettings:
    given = {"partition": partition, "time": time}
    update = {key: value for key, value in given.items() if value is not None}
    return settings.model_copy(update={**update, "sbatch": (*settings.sbatch, *sbatch)})


@slurm_app.command()
def status(
    folder: Folder = _FOLDER,
    prometheus: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write the addresses of the metrics, for file_sd_configs."
        ),
    ] = None,
    json: JsonLines = False,
) -> None:
    """Show each consumer: its job, state, lag and last error."""
    from gixi_bluesky.callbacks.slurm import job_arrays as slurm
    from gixi_bluesky.callbacks.slurm import status as slurm_status

    submission = slurm.Submission.of(folder.absolute())
    consumers = slurm_status.consumers_of(submission)
    if prometheus is not None:
        targets = slurm_status.prometheus_targets(submission, consumers)
        slurm_status.write_targets(prometheus, targets)
    if json:
        for consumer in consumers:
            print_json(consumer.as_json())
    else:
        output.print(consumer_table(submission.job_id, consumers))


@slurm_app.command()
def cancel(
    folder: Folder = _FOLDER,
    now: Annotated[
        bool, typer.Option("--now", help="Let Slurm end them now, without waiting.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="Longest time to finish, s.")
    ] = 300.0,
    json: JsonLines = False,
) -> None:
    """End the consumers: each stores what it has read and commits, then its job is COMPLETED.

    The exit status is 1 when some did not end in time.
    """
    from gixi_bluesky.callbacks.slurm import job_arrays as slurm

    submission = slurm.Submission.of(folder.absolute())
    all_ended = True
    if now:
        slurm.cancel(submission)
    else:
        all_ended = slurm.drain(submission, timeout, _show_left)
    states = {task.number: task.state for task in slurm.tasks_of(submission)}
    if json:
        print_json({"job_id": submission.job_id, "ended": all_ended, "states": states})
    elif not all_ended:
        say(f"not ended within {timeout:g} s: see {folder}/consumer-*.log; --now ends them")
    else:
        say(f"job {submission.job_id}: {_counted(states.values())}")
    if not all_ended:
        raise typer.Exit(1)


def _show_left(tasks: Sequence[ArrayTask]) -> None:
    say(f"waiting for {len(tasks)}: {_counted(task.state for task in tasks)}")


def _counted(states: Iterable[str]) -> str:
    return ", ".join(f"{count} {state}" for state, count in Counter(states).items())

"""The table of consumers that `slurm status` shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from gixi_bluesky.callbacks.slurm.status import ConsumerStatus

__all__ = ["consumer_table"]

_NUMBERS = ("starts", "lag", "frames", "frames/s", "heartbeat (s ago)")


def consumer_table(job_id: int, consumers: Sequence[ConsumerStatus]) -> Table:
    """Return a row for each consumer; old heartbeats are in parentheses."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("job", "state", "node", *_NUMBERS, "problem"):
        table.add_column(name, justify="right" if name in _NUMBERS else "left")
    for consumer in consumers:
        task = consumer.task
        table.add_row(
            f"{job_id}_{task.number}",
            escape(f"{task.state} ({task.reason})" if task.reason else task.state),
            task.node,
            str(task.restarts + 1) if task.node else "",
            *_heartbeat_cells(consumer),
            escape(consumer.problem),
        )
    return table


def _heartbeat_cells(consumer: ConsumerStatus) -> tuple[str, ...]:
    beat = consumer.heartbeat
    if beat is None:
        return ("",) * (len(_NUMBERS) - 1)
    cells = (
        str(beat.lag),
        str(beat.frames),
        f"{beat.frames_per_second:.1f}",
        f"{consumer.age_s:.0f}",
    )
    return tuple(f"({text})" for text in cells) if consumer.stale else cells

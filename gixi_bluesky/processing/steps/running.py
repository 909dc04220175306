"""Steps run on results, each guarded: a failing step costs its own rows only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gixi_bluesky.processing.steps.protocol import Step, StepFrame
from gixi_bluesky.processing.tables import Column, missing_values

__all__ = ["StepRows", "empty_rows", "rows_of", "run_step", "step_columns"]

StepRows = dict[str, list[Any]]

_DTYPES = {float: "<f8", int: "<i8", str: "<U200"}
_LONGEST_REASON = 200


def step_columns(step: Step) -> tuple[Column, ...]:
    """Return the stored columns of a step's rows: status, reason and the step's own."""
    return (
        Column("status", "<U12", "", "ok, or failed: then the other columns are empty"),
        Column("reason", f"<U{_LONGEST_REASON}", "", "why the step failed, else empty"),
        *(
            Column(column.name, _DTYPES[column.dtype], column.unit, column.description)
            for column in step.columns
        ),
    )


def run_step(step: Step, result: StepFrame) -> StepRows:
    """Return the rows of one frame by column; a failure is a row with its reason."""
    try:
        return rows_of(step, step(result))
    except Exception as error:  # the step is the user's
        return _failed(step, f"{type(error).__name__}: {error}")


def rows_of(step: Step, made: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None) -> StepRows:
    """Return what a step made as columns. Raises ValueError or TypeError for what is no row."""
    rows = [] if made is None else [made] if isinstance(made, Mapping) else list(made)
    table = empty_rows(step)
    for row in rows:
        names = {column.name for column in step.columns}
        if set(row) != names:
            message = f"got a row with {sorted(row)}; expected {sorted(names)}"
            raise ValueError(message)
        table["status"].append("ok")
        table["reason"].append("")
        for column in step.columns:
            table[column.name].append(column.dtype(row[column.name]))
    return table


def empty_rows(step: Step) -> StepRows:
    """Return no rows."""
    return {column.name: [] for column in step_columns(step)}


def _failed(step: Step, reason: str) -> StepRows:
    table: StepRows = {
        column.name: missing_values(column, 1).tolist() for column in step_columns(step)
    }
    return {**table, "status": ["failed"], "reason": [reason[:_LONGEST_REASON]]}

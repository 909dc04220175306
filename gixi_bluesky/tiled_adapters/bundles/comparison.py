"""Comparison of two runs, table by table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gixi_bluesky.tiled_adapters.client.readable_runs import ReadableRun
from gixi_bluesky.tiled_adapters.schema import StreamTable, complete_columns, table_keys

__all__ = ["Compared", "compare_runs", "compare_tables"]

Verdict = Literal["equal", "rounding", "differs"]

# Relative differences that another processor or library makes; fits end where they converge.
_ROUNDING = 1e-4
# Columns that depend on the machine and on paths, not on the data.
_OF_THE_RUN = {"latency", "source"}


@dataclass(frozen=True, slots=True)
class Compared:
    """The comparison of a table, or an array, of a run with that of another.

    verdict: equal; rounding, where numbers differ by at most 1e-4; differs
    detail: what differs, in words
    """

    name: str
    verdict: Verdict
    detail: str = ""


def compare_runs(before: ReadableRun, after: ReadableRun) -> list[Compared]:
    """Compare all tables and cuts of two runs, and their polar images."""
    now = {table.name for table in after.tables}
    compared = []
    for table in before.tables:
        if table.name not in now:
            compared.append(Compared(table.name, "differs", "the table is missing"))
            continue
        rows = before.table(table.name), after.table(table.name)
        compared.append(compare_tables(table, *rows))
    for name in before.cuts:
        if name not in after.cuts:
            compared.append(Compared(f"cuts/{name}", "differs", "the cut is missing"))
            continue
        curves = before.cut(name).intensity, after.cut(name).intensity
        compared.append(_compare_arrays(f"cuts/{name}", *curves))
    return [*compared, _compare_images(before, after)]


def compare_tables(table: StreamTable, before: pd.DataFrame, after: pd.DataFrame) -> Compared:
    """Compare two tables, whatever the order of their rows."""
    keys = list(table_keys(table.name))
    left, right = (
        (complete_columns(rows, table.name) if not table.name.startswith("step_") else rows)
        .sort_values(keys, kind="stable")
        .reset_index(drop=True)
        for rows in (before, after)
    )
    if len(left) != len(right) or not left[keys].equals(right[keys].astype(left[keys].dtypes)):
        merged = left[keys].merge(right[keys], how="outer", indicator="side")
        only = merged["side"].value_counts()
        detail = (
            f"{only.get('left_only', 0)} rows of {len(left)} are gone, "
            f"{only.get('right_only', 0)} are new"
        )
        return Compared(table.name, "differs", detail)
    names = [name for name in left if name not in {*keys, *_OF_THE_RUN} and name in right]
    return _worst(table.name, [_compare_columns(str(name), left, right) for name in names])


def _compare_columns(name: str, left: pd.DataFrame, right: pd.DataFrame) -> Compared:
    before, after = left[name], right[name]
    if not pd.api.types.is_float_dtype(before):
        n = int((before.astype(str) != after.astype(str)).sum())
        return Compared(name, "differs" if n else "equal", f"{name} in {n} rows" if n else "")
    return _compare_arrays(name, before.to_numpy(float), after.to_numpy(float))


def _compare_arrays(
    name: str, before: NDArray[np.floating], after: NDArray[np.floating]
) -> Compared:
    if before.shape != after.shape:
        return Compared(name, "differs", f"{name} has shape {after.shape}, not {before.shape}")
    if np.array_equal(before, after, equal_nan=True):
        return Compared(name, "equal")
    known = np.isfinite(before)
    if not np.array_equal(known, np.isfinite(after)):
        n = int((known != np.isfinite(after)).sum())
        return Compared(name, "differs", f"{name} is known in {n} other places")
    scale = np.maximum(np.abs(before[known]), float(np.median(np.abs(before[known]))) * 1e-3)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.nan_to_num(np.abs(after[known] - before[known]) / scale, posinf=np.inf)
    most = float(relative.max())
    verdict: Verdict = "rounding" if most <= _ROUNDING else "differs"
    return Compared(name, verdict, f"{name} by up to {most:.1e}")


def _compare_images(before: ReadableRun, after: ReadableRun) -> Compared:
    name = "images"
    if before.n_images != after.n_images:
        detail = f"there are {after.n_images} images, not {before.n_images}"
        return Compared(name, "differs", detail)
    found = [
        _compare_arrays(f"image {row}", before.image(row), after.image(row))
        for row in range(before.n_images)
    ]
    return _worst(name, found)


def _worst(name: str, parts: Sequence[Compared]) -> Compared:
    order: tuple[Verdict, ...] = ("differs", "rounding", "equal")
    for verdict in order:
        same = [part.detail for part in parts if part.verdict == verdict and part.detail]
        if same or verdict == "equal":
            more = f" and {len(same) - 4} more" if len(same) > 4 else ""
            return Compared(name, verdict, "; ".join(same[:4]) + more)
    return Compared(name, "equal")

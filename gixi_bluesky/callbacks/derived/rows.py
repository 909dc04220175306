"""The rows of a frame in each table."""

from __future__ import annotations

import math
from typing import Any

from gixi_bluesky.callbacks.derived.arrivals import Answered
from gixi_bluesky.tiled_adapters.schema import StreamTable, stored_columns

__all__ = ["Rows", "frame_rows", "joined"]

Rows = dict[str, list[Any]]  # by column, all of one length


def frame_rows(answered: Answered, raw_time: float) -> dict[str, Rows]:
    """Return the rows of one frame in the tables peaks, matches, match_peaks and frames.

    raw_time: of the raw event, seconds since 1970
    """
    result = answered.outcome.result
    tables: dict[str, Rows] = {}
    for stream in ("peaks", "matches", "match_peaks"):
        if result is None:
            tables[stream] = {column.name: [] for column in stored_columns(stream)}
        else:
            tables[stream] = _numbered(stream, getattr(result, stream), answered.frame.number)
    tables["frames"] = {name: [value] for name, value in _frame(answered, raw_time).items()}
    return tables


def joined(parts: list[Rows], table: StreamTable) -> Rows:
    """Return the rows of several parts of a table, one after the other."""
    if not parts:
        return {column.name: [] for column in table.columns}
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


def _numbered(stream: str, table: Any, number: int) -> Rows:
    n = len(table)
    columns: Rows = {"frame": [number] * n}
    if stream == "peaks":
        columns["track"] = [-1] * n
    return columns | {name: values.tolist() for name, values in table.items()}


def _frame(answered: Answered, raw_time: float) -> dict[str, Any]:
    frame, outcome, result = answered.frame, answered.outcome, answered.outcome.result
    given = frame.incidence_angle_deg
    angle = math.nan if given is None else given
    best = result.matches if result is not None and len(result.matches) else None
    return {
        "frame": frame.number,
        "raw_seq_num": frame.seq_num,
        "raw_time": raw_time,
        "incidence_angle_deg": angle if result is None else result.incidence_angle_deg,
        "n_peaks": 0 if result is None else len(result.peaks),
        "best_phase": "" if best is None else best.phase[0],
        "best_probability": math.nan if best is None else float(best.probability[0]),
        "total_intensity": math.nan if result is None else result.total_intensity,
        "latency": answered.latency,
        "status": outcome.status,
        "reason": outcome.reason or frame.note,
        "source": frame.source,
        "gain": math.nan if result is None else result.gain,
        "readout_noise": math.nan if result is None else result.readout_noise,
    }

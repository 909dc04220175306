"""Scalars of a raw run, such as a temperature, at the times of the frames of a derived one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["joined"]

_EVENT = ("seq_num", "time")


@dataclass(frozen=True, slots=True)
class _Signal:
    """The readings of one key: times (n,) s since 1970, rising; values (n,); seq_nums (n,)."""

    stream: str
    seq_nums: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[Any]


def joined(
    rows: pd.DataFrame, frames: pd.DataFrame, raw: Any, stream: str, names: Sequence[str]
) -> pd.DataFrame:
    """Return rows with a column for each of some signals of the raw run.

    rows: of any table with `frame`; frames: the rows of `frames`
    raw: client of the raw run; stream: the stream of its images
    A signal of that stream is joined by event. Signals of other streams, monitors and the
    baseline are interpolated in time if they are numbers, and else hold until the next reading;
    after the last reading they keep its value, before the first they are NaN or None.
    Raises KeyError for a name that no stream of the raw run has.
    """
    columns = {}
    for name in names:
        signal = _signal(raw, name, stream)
        values = _by_event(signal, frames) if signal.stream == stream else None
        columns[name] = _at_times(signal, frames["raw_time"]) if values is None else values
    table = pd.DataFrame({"frame": frames["frame"].to_numpy(), **columns})
    return rows.merge(table.drop_duplicates("frame"), on="frame", how="left")


def _signal(raw: Any, name: str, first: str) -> _Signal:
    streams = [first, *(key for key in raw if key not in {first, "baseline"}), "baseline"]
    found: set[str] = set()
    for stream in streams:
        if stream not in raw:
            continue
        node = raw[stream]
        scalars = {
            key
            for key, described in node.metadata.get("data_keys", {}).items()
            if not described.get("shape")
        }
        found |= scalars
        if name in scalars:
            return _readings(node, stream, name)
    message = (
        f"no stream of raw run {raw.metadata['start']['uid']} has the scalar {name!r}; there are "
        f"{', '.join(sorted(found)) or 'none'}"
    )
    raise KeyError(message)


def _readings(node: Any, stream: str, name: str) -> _Signal:
    table = node.base["internal"]
    stamp = f"ts_{name}"
    wanted = [*_EVENT, name, *([stamp] if stamp in table.columns else [])]
    rows = table.read(wanted).drop_duplicates("seq_num")
    times = rows[stamp if stamp in rows else "time"].to_numpy(np.float64)
    order = np.argsort(times, kind="stable")
    return _Signal(
        stream,
        rows["seq_num"].to_numpy(np.int64)[order],
        times[order],
        rows[name].to_numpy()[order],
    )


def _by_event(signal: _Signal, frames: pd.DataFrame) -> NDArray[Any] | None:
    """Return the values of the frames' own events; None where an event is not there."""
    values = pd.Series(signal.values, index=signal.seq_nums)
    wanted = frames["raw_seq_num"]
    return values.reindex(wanted).to_numpy() if wanted.isin(values.index).all() else None


def _at_times(signal: _Signal, times: pd.Series) -> NDArray[Any]:
    at = times.to_numpy(np.float64)
    numbers = np.issubdtype(signal.values.dtype, np.number)
    if not len(signal.times):
        return np.full(len(at), np.nan if numbers else None)
    if numbers:
        values = np.interp(at, signal.times, signal.values.astype(np.float64), left=np.nan)
        return np.where(np.isfinite(at), values, np.nan)
    place = np.searchsorted(signal.times, at, side="right") - 1
    held: NDArray[Any] = signal.values.astype(object)[np.maximum(place, 0)]
    held[(place < 0) | ~np.isfinite(at)] = None
    return held

"""Signals of a raw run beside the rows of a derived one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from gixi_bluesky.tiled_adapters.client.raw_signals import joined

FRAMES = pd.DataFrame({"frame": [0, 1], "raw_time": [10.0, 11.0], "raw_seq_num": [1, 2]})


class RawRun(dict[str, Any]):
    metadata = {"start": {"uid": "raw"}}  # noqa: RUF012


def stream(name: str, **columns: list[Any]) -> Any:
    rows = pd.DataFrame(columns)
    table = SimpleNamespace(columns=list(columns), read=lambda names: rows[names])
    return SimpleNamespace(metadata={"data_keys": {name: {"shape": []}}}, base={"internal": table})


@pytest.mark.parametrize("dtype", ["float64", "object"])
def test_a_monitor_without_readings_gives_no_values(dtype: str) -> None:
    empty = stream("T", seq_num=[], time=[], T=[])
    rows = pd.DataFrame({"seq_num": [], "time": [], "T": pd.Series([], dtype=dtype)})
    empty.base["internal"].read = lambda names: rows[names]
    table = joined(FRAMES[["frame"]], FRAMES, RawRun(monitor=empty), "primary", ["T"])
    assert table["T"].isna().tolist() == [True, True]


def test_a_monitor_is_interpolated_and_keeps_its_last_value() -> None:
    monitor = stream("T", seq_num=[1, 2], time=[9.0, 10.5], T=[20.0, 35.0])
    table = joined(FRAMES[["frame"]], FRAMES, RawRun(monitor=monitor), "primary", ["T"])
    assert table["T"].tolist() == pytest.approx([30.0, 35.0])

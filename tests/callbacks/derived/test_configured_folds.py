"""Textures and users' steps in the derived run, as the configuration asks for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from derived_publisher import analysed

from gixi_bluesky.callbacks.derived.configured_folds import configured_folds
from gixi_bluesky.callbacks.derived.folds import OrderedFrame
from gixi_bluesky.processing.steps.running import StepRows
from gixi_bluesky.processing.steps.settings import StepSettings
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks, TextureTable

STEPS = """
from gixi_bluesky.processing.steps import StepColumn

class Drift:
    name = "drift"
    stateful = True
    columns = (StepColumn("frames", int), StepColumn("first", float))
    def __init__(self):
        self.seen = []
    def __call__(self, result):
        self.seen.append(float(result.polar_image.mean()))
        if self.seen[-1] > 90:
            raise ValueError("too bright")
        return {"frames": len(self.seen), "first": self.seen[0]}
    def finish(self):
        return {"frames": -len(self.seen), "first": self.seen[0]}

class Alone:
    name = "alone"
    columns = (StepColumn("n", int),)
    def __call__(self, result):
        return {"n": len(result.peaks)}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "steps.py"
    path.write_text(STEPS)
    return path


def ordered(number: int, level: float, **of_worker: Any) -> OrderedFrame:
    return OrderedFrame(
        number=number,
        time=float(number),
        status="ok",
        peaks=Peaks.empty(),
        matches=Matches.empty(),
        match_peaks=MatchPeaks.empty(),
        image=np.full((2, 3), level, np.float32),
        result=replace(analysed(level), **of_worker),
    )


def test_rows_of_the_worker_go_to_their_streams(file):
    rows: StepRows = {"status": ["ok"], "reason": [""], "n": [3]}
    textures = TextureTable.from_rows([{"name": "ring", "hermans": 0.4}])
    settings = [StepSettings.of_file(file, "Alone")]
    folds = configured_folds(settings, textures=True)(None, None)  # type: ignore[arg-type]
    one = ordered(4, 1.0, step_rows={"alone": rows}, textures=textures)
    made = [fold.add(one).rows for fold in folds]
    assert list(made[0]) == ["textures"]
    texture = pd.DataFrame(made[0]["textures"])
    assert texture.loc[0, ["frame", "name", "hermans"]].tolist() == [4, "ring", 0.4]
    assert dict(made[1]["step_alone"]) == {"frame": [4], "row": [0], **rows}


class Stored:
    """Two stored frames with their images."""

    def __init__(self, levels: list[float]) -> None:
        self.levels = levels

    def __iter__(self):
        return iter([replace(ordered(i, x), image=None) for i, x in enumerate(self.levels)])

    def image(self, number: int):
        return np.full((2, 3), self.levels[number], np.float32)

    def table(self, stream: str) -> pd.DataFrame:
        return pd.DataFrame()


def rows_of(folds: Any, frames: list[OrderedFrame]) -> list[dict[str, Any]]:
    (fold,) = folds
    made = [fold.add(one).rows["step_drift"] for one in frames]
    return [{key: values[0] for key, values in rows.items()} for rows in made]


def test_a_step_with_a_state_goes_on_after_a_restart_as_if_it_had_not_stopped(file):
    build = configured_folds([StepSettings.of_file(file, "Drift")], textures=False)
    whole, resumed = (build(None, None) for _ in range(2))  # type: ignore[arg-type]
    frames = [ordered(number, level) for number, level in enumerate([5.0, 7.0, 9.0, 95.0])]
    expected = rows_of(whole, frames)
    assert [row["frames"] for row in expected] == [1, 2, 3, -1]
    assert expected[3]["status"] == "failed"
    assert expected[3]["reason"] == "ValueError: too bright"
    resumed[0].restore(Stored([5.0, 7.0]))  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(
        pd.DataFrame(rows_of(resumed, frames[2:])), pd.DataFrame(expected[2:])
    )
    last = whole[0].finish().rows["step_drift"]
    assert (last["frame"], last["frames"]) == ([3], [-4])
    assert whole[0].finish().rows == resumed[0].finish().rows


def test_a_frame_that_was_not_analysed_has_no_rows(file):
    settings = [StepSettings.of_file(file, "Drift"), StepSettings.of_file(file, "Alone")]
    folds = configured_folds(settings, textures=True)(None, None)  # type: ignore[arg-type]
    failed = replace(ordered(0, 1.0), status="failed", result=None)
    assert [fold.add(failed).rows for fold in folds] == [{}, {}, {}]

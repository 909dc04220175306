"""Steps of users: found, checked before the first frame, and unable to disturb the chain."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing.steps import Step, StepColumn
from gixi_bluesky.processing.steps.loading import identity, load_step, load_steps
from gixi_bluesky.processing.steps.running import run_step
from gixi_bluesky.processing.steps.settings import StepSettings

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "steps" / "thermometer.py"


class Counting:
    """The number of peaks, and the name of the strongest kind."""

    name = "counting"
    version = "2"
    columns = (StepColumn("n", int), StepColumn("kind", str))

    def __init__(self, fails: bool = False, row: Any = None) -> None:
        self.fails, self.row = fails, row

    def __call__(self, result: Any) -> Any:
        if self.fails:
            message = "the step is broken"
            raise RuntimeError(message)
        return {"n": len(result.peaks), "kind": "ring"} if self.row is None else self.row


RESULT: Any = SimpleNamespace(peaks=pd.DataFrame({"q": [1.05, 2.11], "intensity": [30.0, 10.0]}))


class Points:
    """Entry points as an installed package would have them."""

    found: ClassVar[dict[str, Any]] = {"counting": Counting, "broken": None}

    @classmethod
    def entry_points(cls, group: str) -> list[Any]:
        assert group == "gixi_bluesky.steps"
        return [SimpleNamespace(name=name, load=lambda n=name: cls.load(n)) for name in cls.found]

    @classmethod
    def load(cls, name: str) -> Any:
        if cls.found[name] is None:
            message = "no module named numby"
            raise ImportError(message)
        return cls.found[name]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gixi_bluesky.processing.steps.loading.metadata", Points)


def test_a_step_is_found_by_its_entry_point_with_its_parameters(installed):
    plain, with_parameters = (
        StepSettings.model_validate(value)
        for value in ("counting", {"name": "counting", "parameters": {"fails": True}})
    )
    step = load_step(plain)
    assert isinstance(step, Step)
    assert run_step(step, RESULT) == {"status": ["ok"], "reason": [""], "n": [2], "kind": ["ring"]}
    assert identity(plain, step) != identity(with_parameters, load_step(with_parameters))


def test_a_failing_step_costs_its_own_rows(installed):
    rows = run_step(Counting(fails=True), RESULT)
    assert rows["status"] == ["failed"]
    assert rows["reason"] == ["RuntimeError: the step is broken"]
    assert (rows["n"], rows["kind"]) == ([-1], [""])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"n": 1}, "expected ['kind', 'n']"),
        ({"n": "many", "kind": "x"}, "ValueError"),
        (7, "TypeError"),
    ],
)
def test_rows_that_do_not_fit_are_a_failure_of_the_step(row, reason):
    rows = run_step(Counting(row=row), RESULT)
    assert rows["status"] == ["failed"]
    assert reason in rows["reason"][0]


def test_no_and_several_rows():
    assert run_step(Counting(row=[]), RESULT)["n"] == []
    two = [{"n": 1, "kind": "a"}, {"n": 2, "kind": "b"}]
    assert run_step(Counting(row=two), RESULT)["n"] == [1, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("missing", r"no installed package has the step 'missing'.*\['broken', 'counting'\]"),
        ("broken", "cannot be imported: ImportError: no module named numby"),
        ({"name": "counting", "parameters": {"wrong": 1}}, "cannot be made: TypeError"),
    ],
)
def test_a_step_that_cannot_be_loaded_is_refused_at_start(installed, settings, message):
    with pytest.raises(ConfigError, match=message):
        load_steps([StepSettings.model_validate(settings)])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"columns": ()}, "expected at least one StepColumn"),
        ({"columns": (StepColumn("frame"),)}, "none of frame, row"),
        ({"columns": (StepColumn("a"), StepColumn("a"))}, "each name once"),
        ({"name": "two words"}, "expected an identifier"),
        ({"__call__": None}, "no name, columns or call"),
    ],
)
def test_a_class_that_is_no_step_is_refused_at_start(installed, monkeypatch, attributes, message):
    strange = type("Strange", (Counting,), attributes)
    monkeypatch.setitem(Points.found, "counting", strange)
    with pytest.raises(ConfigError, match=message):
        load_step(StepSettings(name="counting"))


def test_two_steps_of_one_name_are_refused(installed):
    with pytest.raises(ConfigError, match="two steps are called 'counting'"):
        load_steps([StepSettings(name="counting"), StepSettings(name="counting")])


def test_a_configuration_cannot_name_a_file():
    for value in ({"name": "x", "file": "a.py"}, {"name": "x", "class_name": "A"}, "a.py::A"):
        with pytest.raises(ValidationError):
            StepSettings.model_validate(value)


def test_the_example_is_a_thermometer():
    step = load_step(StepSettings.of_file(EXAMPLE, "Thermometer"))
    expected = 300 + (1.059 / 1.05 - 1) / 4.5e-5
    rows = run_step(step, RESULT)
    np.testing.assert_allclose(rows["temperature"], expected)
    assert rows["ratio"] == [3.0]
    with pytest.raises(ConfigError, match="has no class 'Barometer'"):
        load_step(StepSettings.of_file(EXAMPLE, "Barometer"))

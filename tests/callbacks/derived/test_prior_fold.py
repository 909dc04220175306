"""The temporal prior of a run: probabilities after the frame before, and after a restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from derived_publisher import RAW, Publisher, analysed, closed, frame
from fake_pipeline import FakePipeline
from fakes import fake_config
from running_fold import Running

from gixi_bluesky.callbacks.derived.folds import Folded, OrderedFrame
from gixi_bluesky.callbacks.derived.prior_fold import TemporalPriorFold
from gixi_bluesky.callbacks.derived.run_folds import run_folds
from gixi_bluesky.callbacks.derived.stores import LocalStore
from gixi_bluesky.callbacks.worker.jobs import Outcome, Ready
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks


def matches(*probabilities: float) -> Matches:
    rows = [{"phase": f"p{i}", "probability": p} for i, p in enumerate(probabilities)]
    table: Matches = Matches.from_rows(rows)
    return table


def ordered(number: int, found: Matches, status: str = "ok") -> OrderedFrame:
    return OrderedFrame(number, 0.0, status, Peaks.empty(), found, MatchPeaks.empty())


def test_the_next_frame_knows_the_last_one_with_a_result():
    fold = TemporalPriorFold(100)
    fold.add(ordered(0, matches(0.95, 0.3)))
    fold.add(ordered(1, Matches.empty(), "failed"))
    given = fold.add(ordered(2, matches(0.2, 0.3))).columns
    first, second = given["matches"]["probability"]
    assert first > 0.9
    assert second == pytest.approx(0.3)
    assert given["frames"]["best_phase"] == ["p0"]
    assert given["frames"]["best_probability"] == [first]


class Later(Running):
    """Keeps the probabilities that it is given."""

    tables = ()

    def __init__(self, seen: list[float]) -> None:
        self.seen = seen

    def add(self, frame: OrderedFrame) -> Folded:
        self.seen.extend(frame.matches.probability.tolist())
        return Folded()

    def restore(self, _) -> None:
        pass

    def finish(self) -> Folded:
        return Folded()

    def summary(self) -> dict[str, float]:
        return {}


def run(folder: Path, cuts: tuple[int, ...]) -> tuple[list[float], list[float], list[float]]:
    """Store six frames in sessions that end before `cuts`; return what is stored and seen."""
    probabilities = (0.95, 0.2, 0.2, 0.05, 0.2, 0.95)
    seen: list[float] = []

    starts = (0, *cuts)
    for start, end in zip(starts, (*cuts, 6), strict=True):
        store = LocalStore(fake_config(folder).output)
        publisher = Publisher(folder, store, folds=[TemporalPriorFold(100), Later(seen)])
        publisher.run.step()
        for number in range(start):
            publisher.run.skip(frame(number))
        for number in range(start, end):
            result = replace(analysed(1.0), matches=matches(probabilities[number]))
            publisher.run.add(frame(number), Outcome("ok", result=result))
        publisher.run.step()
        if end < 6:
            publisher.run.close()
    publisher.run.end(closed(6))
    publisher.finish()
    (finished,) = publisher.folder.glob("*.nxs")
    with h5py.File(finished) as file:
        stored = file["/entry/matches/probability"][()].tolist()
        return stored, file["/entry/frames/best_probability"][()].tolist(), seen


def test_a_resumed_run_gives_the_same_probabilities(tmp_path):
    whole, best, seen = run(tmp_path / "whole", ())
    assert run(tmp_path / "parts", (2, 4)) == (whole, best, seen)
    assert whole == best
    assert seen == whole
    assert whole[0] == pytest.approx(0.95)
    assert whole[1] > 0.9


def test_a_configuration_switches_it(tmp_path):
    for wanted in (False, True):
        config = fake_config(
            tmp_path, matching={"temporal_prior": wanted}, tracks={"follow": False}
        )
        ready = Ready(FakePipeline(config).provenance, ({"slug": "a"},))
        assert [fold.name for fold in run_folds(config)(RAW, ready)] == ["temporal_prior"] * wanted

"""`evaluate --tracks`: peak tracks on simulated series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from gixi_bluesky.cli.console import output, print_json, say

if TYPE_CHECKING:
    from gixi_bluesky.processing.evaluation.onsets import OnsetReport
    from gixi_bluesky.processing.evaluation.series_scorecard import SeriesScore

__all__ = ["evaluate_series"]


def evaluate_series(seed: int | None, count: int, weights: str | None, *, json: bool) -> None:
    """Track the peaks of `count` simulated series; print the mean scores and the onsets.

    weights: of the detector that finds peaks in rendered images; None = simulated peak lists
    """
    from gixi_bluesky.processing.evaluation.onsets import summarise_onsets
    from gixi_bluesky.processing.evaluation.series_scorecard import SERIES_SEED, judge_series

    detector = None
    if weights is not None:
        from gixi_bluesky.processing.detector import load_detector

        detector = load_detector(weights)
    first = SERIES_SEED if seed is None else seed
    scores = []
    for score in judge_series(first, count, detector):
        scores.append(score)
        say(f"series {score.seed}: IDF1 {score.tracks['tracks'].idf1:.3f}")
    onsets = summarise_onsets(onset for score in scores for onset in score.onsets)
    means = _means(scores)
    if json:
        for name, mean in means.items():
            print_json({"tracker": name, "series": count, "seed": first, **mean})
        print_json({"onsets": onsets.summary(), "series": count, "seed": first})
    else:
        _show(means, onsets, count)


def _means(scores: Sequence[SeriesScore]) -> dict[str, dict[str, float]]:
    """Return the mean of each number by tracker, and the median of the switches."""
    means = {}
    for name in scores[0].tracks:
        mine = [score.tracks[name] for score in scores]
        values = {f.name: [float(getattr(one, f.name)) for one in mine] for f in fields(mine[0])}
        means[name] = {key: float(np.nanmean(value)) for key, value in values.items()}
        means[name]["median_switches"] = float(np.median(values["switches"]))
    return means


def _show(means: dict[str, dict[str, float]], onsets: OnsetReport, count: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("", *means, box=SIMPLE_HEAD, title=f"{count} series, means")
    for name in next(iter(means.values())):
        table.add_row(name, *(f"{mean[name]:.3f}" for mean in means.values()))
    output.print(table)
    table = Table("", "", box=SIMPLE_HEAD, title="onsets of phases")
    for name, value in onsets.summary().items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    output.print(table)

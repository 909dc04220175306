"""`evaluate` on simulated series: tracks of peaks, weak peaks of sums, cells that expand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from gixi_bluesky.cli.console import output, print_json, say

if TYPE_CHECKING:
    from gixi_bluesky.processing.evaluation.onsets import OnsetReport
    from gixi_bluesky.processing.evaluation.series_scorecard import SeriesScore

__all__ = ["evaluate_expansion", "evaluate_series", "evaluate_weak_peaks"]

# The numbers of the reports in words; JSON keeps their names.
_WORDS = {
    "idf1": "IDF1",
    "switches": "identity switches",
    "median_switches": "identity switches, median",
    "doubles": "second tracks of a reflection in one frame",
    "whole": "reflections in one track",
    "purity": "tracks of one reflection",
    "strong": "strongest line above SNR 50",
    "within": "onsets within the 95 % interval",
    "within_strong": "the same, strong phases",
    "median_error": "median error, strong phases, frames",
    "mean_error": "mean error, strong phases, frames",
    "median_width": "median width of the interval, frames",
    "weak": "weak peaks",
    "recall": "recall of weak peaks",
    "recall_single": "the same without means",
    "tracks_of_means": "tracks of means",
    "precision": "precision of all tracks",
    "length_error": "median |da| / a",
    "length_pull": "width of da over its error",
    "expansion_error": "median error of the expansion",
    "expansion_pull": "width of that over its error",
    "worst_pull": "the largest of these",
}


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


def evaluate_weak_peaks(seed: int | None, count: int, weights: str, *, json: bool) -> None:
    """Print how many weak peaks are found in `count` simulated series of twenty frames."""
    from gixi_bluesky.processing.detector import load_detector
    from gixi_bluesky.processing.evaluation.weak_peaks import SUMS_SEED, weak_peaks

    first = SUMS_SEED if seed is None else seed
    found = weak_peaks(first, count, load_detector(weights))
    if json:
        print_json({"weak_peaks": found.summary(), "seed": first})
    else:
        _show_numbers("weak peaks of series of 20 frames", found.summary())


def evaluate_expansion(seed: int | None, count: int, *, json: bool) -> None:
    """Print how well the expansion of two phases is recovered over `count` simulated series."""
    from gixi_bluesky.processing.evaluation.expansion import judge_expansion
    from gixi_bluesky.processing.evaluation.mixtures import REPORT

    first = REPORT if seed is None else seed
    report = judge_expansion(first, count)
    if json:
        print_json({"expansion": report.summary(), "seed": first})
    else:
        _show_numbers("cells that expand by 0.5 %", report.summary())


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
        table.add_row(_WORDS.get(name, name), *(f"{mean[name]:.3f}" for mean in means.values()))
    output.print(table)
    _show_numbers("onsets of phases", onsets.summary())


def _show_numbers(title: str, numbers: dict[str, float | int]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("", "", box=SIMPLE_HEAD, title=title)
    for name, value in numbers.items():
        table.add_row(
            _WORDS.get(name, name), f"{value:.3g}" if isinstance(value, float) else str(value)
        )
    output.print(table)

"""`evaluate --tracks`: peak tracks on simulated series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from gixi_bluesky.cli.console import output, print_json

__all__ = ["evaluate_series"]


def evaluate_series(seed: int, count: int, *, json: bool) -> None:
    """Track the peaks of `count` simulated series and print the mean scores."""
    from gixi_bluesky.processing.evaluation.tracking import TrackScore, compare_trackers

    scores = compare_trackers(seed, count)
    means = {
        name: {f.name: _mean([getattr(one, f.name) for one in mine]) for f in fields(TrackScore)}
        for name, mine in scores.items()
    }
    if json:
        for name, mean in means.items():
            print_json({"tracker": name, "series": count, "seed": seed, **mean})
        return
    _show(means, count)


def _show(means: dict[str, dict[str, float]], count: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("", *means, box=SIMPLE_HEAD, title=f"{count} series, means")
    for name in next(iter(means.values())):
        table.add_row(name, *(f"{mean[name]:.3f}" for mean in means.values()))
    output.print(table)


def _mean(values: Sequence[float]) -> float:
    return float(np.nanmean(values))

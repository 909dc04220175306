"""`evaluate`: detectors side by side on simulated frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gixi_bluesky.cli.console import output, print_json, say
from gixi_bluesky.cli.options import JsonLines

if TYPE_CHECKING:
    from gixi_bluesky.processing.evaluation.scorecard import Scorecard

__all__ = ["evaluate"]

_RULES = {"0.1": "AP, IoU 0.1", "0.3": "AP, IoU 0.3", "0.5": "AP, IoU 0.5", "dq": "AP, |dq|"}


def evaluate(
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", metavar="NAME", help="A name or a file; repeat to compare."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="How many frames are simulated.")] = 40,
    seed: Annotated[int, typer.Option(help="The first seed, 910000 or above.")] = 910_000,
    style: Annotated[
        Literal["detector", "painted"],
        typer.Option(help="Frames of a detector, or images as the published networks learned."),
    ] = "detector",
    space: Annotated[
        Literal["polar", "cartesian"],
        typer.Option(help="Of the images, as grid.space: (|q|, phi), or (q_xy, q_z)."),
    ] = "polar",
    json: JsonLines = False,
    out: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Precision, recall and calibration.")
    ] = None,
) -> None:
    """Measure how good detectors are, on frames that none of ours was trained on.

    Average precision by several rules, recall at the default threshold for weak (SNR 5-15), medium
    (15-50) and strong peaks and for each kind, precision there, median |dq|/|q| of the hits, and
    CPU seconds a frame on one thread. Without --weights: the default detector.
    """
    import cv2
    import torch

    from gixi_bluesky.processing.detector import load_detector
    from gixi_bluesky.processing.evaluation.scorecard import (
        compare,
        evaluation_frames,
        painted_exercises,
    )

    if style == "painted":
        if space != "polar":
            message = "painted images are polar; leave out --style painted or --space cartesian"
            raise typer.BadParameter(message)
        frames = painted_exercises(seed, images)
    else:
        frames = evaluation_frames(seed, images, space)
    detectors = [load_detector(name, space=space) for name in weights or ["default"]]
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    cards = compare(detectors, frames)
    if json:
        for card in cards:
            print_json(card.summary())
    else:
        _show(cards)
    if out is not None:
        from gixi_bluesky.processing.evaluation.figure import save_figure

        save_figure(cards, out)
        say(f"the curves are in {out}")


def _show(cards: Sequence[Scorecard]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = f"{cards[0].images} frames, {cards[0].peaks} peaks to find"
    table = Table("", *(card.weights for card in cards), box=SIMPLE_HEAD, title=title)
    for rule, label in _RULES.items():
        table.add_row(label, *_cells(card.average_precision[rule] for card in cards))
    for group in cards[0].recall:
        table.add_row(f"recall, {group}", *_cells(card.recall[group] for card in cards))
    table.add_row("precision", *_cells(card.precision for card in cards))
    table.add_row("median |dq|/|q|", *(f"{card.dq_over_q:.2%}" for card in cards))
    table.add_row("CPU seconds a frame", *_cells(card.cpu_s for card in cards))
    output.print(table)


def _cells(values: Iterable[float]) -> list[str]:
    return [f"{value:.3f}" for value in values]

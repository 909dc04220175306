"""`evaluate`: detectors side by side, or the errors of measured peaks, on simulated frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gixi_bluesky.cli.console import output, print_json, say
from gixi_bluesky.cli.options import JsonLines

if TYPE_CHECKING:
    from gixi_bluesky.processing.evaluation.phase_scorecard import PhaseScorecard
    from gixi_bluesky.processing.evaluation.pulls import MeasuringReport
    from gixi_bluesky.processing.evaluation.scorecard import Scorecard

__all__ = ["evaluate"]

_RULES = {"0.1": "AP, IoU 0.1", "0.3": "AP, IoU 0.3", "0.5": "AP, IoU 0.5", "dq": "AP, |dq|"}


def evaluate(
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights", metavar="NAME", help="Name or file of the weights; repeat to compare."
        ),
    ] = None,
    measured: Annotated[
        bool, typer.Option("--measured", help="Evaluate the boxes that the fit refined.")
    ] = False,
    measuring: Annotated[
        bool, typer.Option("--measuring", help="Errors of measured peaks instead; no weights.")
    ] = False,
    images: Annotated[int, typer.Option(min=1, help="Number of simulated frames.")] = 40,
    seed: Annotated[
        int | None,
        typer.Option(help="The first seed; for detectors 910000 (default) or above."),
    ] = None,
    style: Annotated[
        Literal["detector", "painted", "grainy", "oriented", "dense"],
        typer.Option(
            help="Simulated detector frames, images as the published networks were trained on, or "
            "frames of one kind of film: few crystallites, spots only, lines close together."
        ),
    ] = "detector",
    space: Annotated[
        Literal["polar", "cartesian"],
        typer.Option(help="Space of the images, as grid.space: (|q|, phi) or (q_xy, q_z)."),
    ] = "polar",
    phases: Annotated[
        Literal["peaks", "images", "series"] | None,
        typer.Option(
            help="Evaluate phases instead: probabilities on peak lists or images, or the thermal "
            "expansion of cells over --series."
        ),
    ] = None,
    tracks: Annotated[
        bool, typer.Option("--tracks", help="Evaluate tracks on simulated series instead.")
    ] = False,
    series: Annotated[
        int, typer.Option(min=1, help="With --tracks, --sums or --phases series: number of series.")
    ] = 12,
    rendered: Annotated[
        bool, typer.Option("--rendered", help="With --tracks: peaks found in rendered images.")
    ] = False,
    sums: Annotated[
        bool, typer.Option("--sums", help="Evaluate weak peaks found in means of frames instead.")
    ] = False,
    json: JsonLines = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Write a figure of precision, recall and calibration."),
    ] = None,
) -> None:
    """Evaluate detectors on simulated frames that are excluded from training.

    Average precision by several rules, recall at the default threshold for weak (SNR 5-15), medium
    (15-50) and strong peaks and for each kind, precision there, boxes on a ring that has any and
    the share of such rings, median |dq|/|q| of the hits, and CPU seconds a frame on one thread.
    Without --weights: the default detector.

    With --phases: simulated mixtures of 2 to 4 phases among 110 candidates; area under the curve,
    calibration error in ten bins, recall and precision at probability 0.5; for the phases found,
    errors and pulls of the cell lengths, contact planes and mosaics. Seeds below 1000 were used in
    development; the default is 1000. --out draws the reliability diagram. With --phases series: a
    tetragonal and a cubic phase whose lengths drift apart by up to 0.8 % over 20 frames; errors and
    pulls of the cells and of their expansions.

    With --measuring: the width of the pulls, (measured - true) / stated error, of peaks of known
    position, widths and intensity; 1 means that the stated errors are right.

    With --tracks: IDF1, identity switches and whole reflections on peak lists of simulated
    crystallisations, compared with a tracker that takes the nearest peak; errors and intervals of
    the onsets of their phases. With --rendered a detector finds the peaks in images. The default
    seed is 940000; seeds below it were used in development.

    With --sums: recall of weak peaks (SNR 5 to 15 in one frame) by the tracks of --series films of
    twenty unchanged frames, with and without those found in the mean, and precision of all tracks;
    the default seed is 970000.
    """
    if measuring:
        _measuring(1000 if seed is None else seed, images, json=json)
        return
    if phases == "series":
        from gixi_bluesky.cli.evaluate_series import evaluate_expansion

        evaluate_expansion(seed, series, json=json)
        return
    if phases is not None:
        _judge_phases(phases, (weights or ["default"])[0], images, seed, json=json, out=out)
        return
    if sums:
        from gixi_bluesky.cli.evaluate_series import evaluate_weak_peaks

        evaluate_weak_peaks(seed, series, (weights or ["default"])[0], json=json)
        return
    if tracks:
        from gixi_bluesky.cli.evaluate_series import evaluate_series

        name = (weights or ["default"])[0] if rendered else None
        evaluate_series(seed, series, name, json=json)
        return
    seed = 910_000 if seed is None else seed
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
        frames = evaluation_frames(seed, images, space, "plain" if style == "detector" else style)
    detectors = [load_detector(name, space=space) for name in weights or ["default"]]
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    cards = compare(detectors, frames, measured=measured)
    if json:
        for card in cards:
            print_json(card.summary())
    else:
        _show(cards)
    if out is not None:
        from gixi_bluesky.processing.evaluation.figure import save_figure

        save_figure(cards, out)
        say(f"the curves are in {out}")


def _judge_phases(
    level: str, weights: str, frames: int, seed: int | None, *, json: bool, out: Path | None
) -> None:
    from gixi_bluesky.processing.evaluation.candidate_sets import candidate_structures
    from gixi_bluesky.processing.evaluation.figure import save_reliability
    from gixi_bluesky.processing.evaluation.mixtures import REPORT, mixtures
    from gixi_bluesky.processing.evaluation.phase_scorecard import judge_phases

    first = REPORT if seed is None else seed
    candidates = candidate_structures(first, q_max=6.0)
    if level == "images":
        from gixi_bluesky.processing.detector import load_detector
        from gixi_bluesky.processing.evaluation.rendered_mixtures import rendered_mixtures

        simulated = rendered_mixtures(first, frames, candidates, load_detector(weights))
    else:
        simulated = mixtures(first, frames, candidates)
    card = judge_phases(simulated)
    if json:
        print_json(card.summary())
    else:
        _show_phases(card)
    if out is not None:
        save_reliability(card, out)
        say(f"the reliability diagram is in {out}")


def _show_phases(card: PhaseScorecard) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = f"{card.frames} frames, {card.candidates} candidates"
    table = Table("", "", box=SIMPLE_HEAD, title=title)
    for label, value in (
        ("AUC, at least four lines", card.auc),
        ("calibration error", card.calibration_error),
        ("calibration error, p > 0.01", card.calibration_error_reported),
        ("recall, at least four lines", card.recall),
        ("recall, all", card.recall_all),
        ("precision", card.precision),
        ("recall, groups as one", card.group_recall),
        ("precision, groups as one", card.group_precision),
        ("surest absent phase, 99 % of frames", card.highest_absent[1]),
    ):
        table.add_row(label, f"{value:.3f}")
    found = card.crystals
    table.add_row(f"median |da| / a, {found.cells} strong phases", f"{found.length_error:.1e}")
    table.add_row("width of da over its error", f"{found.length_pull:.2f}")
    table.add_row(f"right contact plane, {found.fibres} fibres", f"{found.right_planes:.3f}")
    table.add_row("mosaic within 15 %, of these", f"{found.right_mosaics:.3f}")
    table.add_row("CPU ms a frame, matching", f"{card.cpu_ms:.1f}")
    output.print(table)


def _measuring(seed: int, images: int, *, json: bool) -> None:
    from gixi_bluesky.processing.evaluation.known_peaks import known_frames
    from gixi_bluesky.processing.evaluation.pulls import measured_pulls, summarise
    from gixi_bluesky.processing.measure.peaks import measure

    report = summarise(measured_pulls(known_frames(seed, images), measure))
    if json:
        print_json(report.summary())
    else:
        _show_pulls(report, images)


def _show_pulls(report: MeasuringReport, images: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from gixi_bluesky.processing.evaluation.pulls import QUANTITIES

    title = f"width of the pulls; {images} frames, {report.peaks} peaks"
    table = Table("", *QUANTITIES, box=SIMPLE_HEAD, title=title)
    groups: dict[str, list[float]] = {}
    for pull in report.pulls:
        name = f"{pull.strength}, {'in pairs' if pull.paired else 'alone'}"
        groups.setdefault(name, []).append(pull.width)
    for name, widths in groups.items():
        table.add_row(name, *(f"{width:.2f}" for width in widths))
    output.print(table)
    say(f"median |dq| of strong peaks alone: {report.dq_bins:.3f} bins")
    say(f"flagged as failed or cut, and left out: {report.untrusted:.1%}")


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
    table.add_row("boxes a ring", *_cells(card.boxes_a_ring for card in cards))
    table.add_row("rings found", *_cells(card.rings_found for card in cards))
    table.add_row("median |dq|/|q|", *(f"{card.dq_over_q:.2%}" for card in cards))
    table.add_row("CPU seconds a frame", *_cells(card.cpu_s for card in cards))
    output.print(table)


def _cells(values: Iterable[float]) -> list[str]:
    return [f"{value:.3f}" for value in values]

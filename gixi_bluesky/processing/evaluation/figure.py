"""Figures of an evaluation: precision over recall, calibration of scores and probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gixi_bluesky.processing.evaluation.phase_scorecard import PhaseScorecard
from gixi_bluesky.processing.evaluation.scorecard import Scorecard

__all__ = ["save_figure", "save_reliability"]


def save_figure(cards: Sequence[Scorecard], target: Path) -> None:
    """Draw the curves of several detectors as one PNG."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    quality, calibration = figure.subplots(1, 2)
    for card in cards:
        ap = card.average_precision["0.3"]
        quality.plot(card.recalls, card.precisions, label=f"{card.weights}, AP {ap:.2f}")
        expected = [b.expected for b in card.calibration]
        calibration.plot(expected, [b.observed for b in card.calibration], marker=".")
    quality.set(xlabel="recall", ylabel="precision, IoU 0.3", xlim=(0, 1), ylim=(0, 1.02))
    quality.legend(frameon=False)
    calibration.plot([0, 1], [0, 1], color="0.7", linestyle=":", zorder=0)
    calibration.set(xlabel="score", ylabel="share of hits", xlim=(0, 1), ylim=(0, 1))
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120)


def save_reliability(card: PhaseScorecard, target: Path) -> None:
    """Draw the reliability diagram of the phases' probabilities, and the verdicts per bin."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    FigureCanvasAgg(figure)
    reliability, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    expected = [b.expected for b in card.calibration]
    label = f"calibration error {card.calibration_error:.3f}, AUC {card.auc:.3f}"
    reliability.plot(expected, [b.observed for b in card.calibration], marker="o", label=label)
    reliability.plot([0, 1], [0, 1], color="0.7", linestyle=":", zorder=0)
    reliability.set(ylabel="share present", xlim=(0, 1), ylim=(0, 1))
    reliability.set_title(f"{card.frames} frames, {card.candidates} candidates", fontsize="medium")
    reliability.legend(frameon=False)
    counts.bar(expected, [b.count for b in card.calibration], width=0.06)
    counts.set(xlabel="probability", ylabel="verdicts", yscale="log")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120)

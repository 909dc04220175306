"""The picture of a training: losses and average precision over the images seen."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["read_curve", "save_curve"]

_LOSSES = {
    "score": "score of anchors",
    "box": "boxes of anchors",
    "verdict": "score of proposals",
    "refine": "boxes of proposals",
    "kind": "kind",
}
_PRECISIONS = {"ap0.3": "IoU 0.3", "ap0.5": "IoU 0.5"}


def read_curve(path: Path) -> list[dict[str, float]]:
    """Return the rows of curve.jsonl by images seen; of rows repeated after a kill, the last."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    last = {row["seen"]: row for row in rows}
    return [last[seen] for seen in sorted(last)]


def save_curve(curve: Path, target: Path) -> None:
    """Draw a curve.jsonl as a PNG file, which is replaced atomically."""
    rows = read_curve(curve)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    losses, precision = figure.subplots(1, 2)
    for axes, names in ((losses, _LOSSES), (precision, _PRECISIONS)):
        for name, label in names.items():
            points = [(row["seen"], row[name]) for row in rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=label)
                axes.legend(frameon=False, fontsize="small")
        axes.set_xlabel("images seen")
    losses.set(ylabel="loss", yscale="log")
    precision.set(ylabel="average precision, held-out frames", ylim=(0, 1))
    part = target.with_name(f".{target.stem}.part{target.suffix}")
    figure.savefig(part, dpi=120)
    part.replace(target)

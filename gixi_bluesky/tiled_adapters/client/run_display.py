"""A derived run as Python and notebooks show it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from gixi_bluesky.tiled_adapters.run_names import sample_name

if TYPE_CHECKING:
    from gixi_bluesky.tiled_adapters.client.run import GIXIRun

__all__ = ["run_html", "run_line"]

_SHOWN_PHASES = 3


def run_line(run: GIXIRun) -> str:
    """Return uids, counts, the likeliest phases and the state of a run, in one line."""
    summary = run.summary
    phases = ", ".join(
        f"{phase['name']} {phase['max_probability']:.2f}"
        for phase in _probable(summary)[:_SHOWN_PHASES]
    )
    return (
        f"<GIXIRun {run.metadata['start']['uid'][:8]} of raw {run.raw_uid[:8]}: "
        f"{summary.get('n_frames', 0)} frames, {summary.get('n_peaks', 0)} peaks"
        f"{', ' + phases if phases else ''}, {_state(run)}>"
    )


def run_html(run: GIXIRun) -> str:
    """Return what a notebook shows: counts, and each phase with its probability and onset."""
    summary, start = run.summary, run.metadata["start"]
    names = ("n_frames", "n_peaks", "n_dropped", "n_failed")
    counts = ", ".join(f"{summary.get(name, 0)} {name[2:]}" for name in names)
    rows = "".join(
        f"<tr><td>{escape(str(phase['name']))}</td><td>{phase['max_probability']:.2f}</td>"
        f"<td>{phase.get('n_frames', 0)}</td><td>{_onset(phase)}</td></tr>"
        for phase in _probable(summary)
    )
    table = (
        "<table><tr><th>phase</th><th>probability</th><th>frames</th><th>from frame</th></tr>"
        f"{rows}</table>"
    )
    sample = escape(sample_name(start))
    return (
        f"<div><b>GIXIRun</b> <code>{escape(start['uid'])}</code> {sample}<br>"
        f"of raw <code>{escape(run.raw_uid)}</code>, {_state(run)}: {counts}"
        f"{table if rows else ''}</div>"
    )


def _state(run: GIXIRun) -> str:
    return "complete" if run.metadata.get("stop") else "growing"


def _probable(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the phases of a summary that have a probability, the highest first."""
    phases = [
        phase
        for phase in summary.get("phases", {}).values()
        if phase.get("max_probability") is not None
    ]
    return sorted(phases, key=lambda phase: -phase["max_probability"])


def _onset(phase: Mapping[str, Any]) -> str:
    frame = phase.get("onset_frame")
    return "" if frame is None else str(frame)

"""The results of the demo, read from Tiled as by any other client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from gixi_bluesky.demo.monitor import simulated_seconds
from gixi_bluesky.errors import StoreError
from gixi_bluesky.plurals import counted
from gixi_bluesky.tiled_adapters import queries

__all__ = ["Findings", "ask", "show"]

_PRESENT = 0.5


@dataclass(frozen=True, slots=True)
class Findings:
    """One derived run, read back.

    phases: highest probability and first time, s, of each phase that was found, by name
    absent: highest probability of each candidate that was not
    lines: the last frame's peaks with phase and hkl
    """

    phases: dict[str, dict[str, float]]
    absent: dict[str, float]
    lines: pd.DataFrame
    n_frames: int
    n_peaks: int

    def summary(self, seconds: float) -> dict[str, Any]:
        """Return what summary.json holds; `seconds`: wall time that scan and analysis took."""
        return {
            "phases": self.phases,
            "n_frames": self.n_frames,
            "n_peaks": self.n_peaks,
            "frames_per_second": round(self.n_frames / seconds, 3),
            "absent_phases": self.absent,
        }


def ask(client: Any, raw: str, derived: str, raw_uid: str, names: Mapping[str, str]) -> Findings:
    """Read the derived run of `raw_uid`; `names`: name of each candidate by its slug.

    Raises StoreError when Tiled has no such run.
    """
    runs = queries.runs_for(client[derived], raw_uid)
    if not runs:
        message = f"no derived run of {raw_uid} in {derived!r}; see the log for what stopped it"
        raise StoreError(message)
    run = runs[0]
    seconds = simulated_seconds(client[raw], raw_uid)
    highest = run.matches().groupby("phase")["probability"].max()
    phases, absent = {}, {}
    for slug, name in names.items():
        probability = round(float(highest.get(slug, 0.0)), 4)
        uids = {found.metadata["start"]["uid"] for found in _with_phase(client[derived], slug)}
        if run.metadata["start"]["uid"] in uids:
            onset = seconds[int(run.summary["phases"][slug]["onset_frame"])]
            phases[name] = {"probability": probability, "onset_s": onset - seconds[0]}
        else:
            absent[name] = probability
    frames = run.frames()
    return Findings(
        phases=phases,
        absent=dict(sorted(absent.items(), key=lambda item: -item[1])),
        lines=_lines(run, int(frames["frame"].max()), names),
        n_frames=len(frames),
        n_peaks=len(run.peaks()),
    )


def show(console: Console, findings: Findings, seconds: float) -> None:
    """Print the tables of peaks and phases, and the throughput."""
    peaks = Table("|q| (1/Å)", "phi (deg)", "SNR", "phase", "hkl", "dq (1/Å)", title="Last frame")
    for row in findings.lines.to_dict("records"):
        named = isinstance(row["phase"], str)
        peaks.add_row(
            f"{row['q']:.5f} ± {row['q_error']:.5f}",
            f"{row['phi']:.1f}",
            f"{row['snr']:.0f}",
            row["phase"] if named else "?",
            f"{row['h']:.0f} {row['k']:.0f} {row['l']:.0f}" if named else "",
            f"{row['dq']:+.4f}" if named else "",
        )
    phases = Table("phase", "probability", "since (s)", title="Phases")
    for name, found in findings.phases.items():
        phases.add_row(name, f"{found['probability']:.3f}", f"{found['onset_s']:.0f}", style="bold")
    for name, probability in findings.absent.items():
        phases.add_row(name, f"{probability:.3f}", "absent", style="dim")
    console.print(peaks, phases)
    console.print(
        f"{counted(findings.n_frames, 'frame')}, {counted(findings.n_peaks, 'peak')} in "
        f"{seconds:.1f} s: {findings.n_frames / seconds:.2f} frames/s, "
        "simulation and storage included"
    )


def _with_phase(catalogue: Any, slug: str) -> list[Any]:
    return queries.with_phase(catalogue, slug, _PRESENT)


def _lines(run: Any, frame: int, names: Mapping[str, str]) -> pd.DataFrame:
    """Return the peaks of a frame with their most probable phase and nearest line."""
    sure = run.matches(frame=frame)
    sure = sure[sure["probability"] >= _PRESENT][["phase", "probability"]]
    known = run.match_peaks(frame=frame).merge(sure, on="phase")
    known = known.assign(off=known["dq"].abs())
    known = known.sort_values(["probability", "off"], ascending=[False, True])
    known = known.drop_duplicates("peak")[["peak", "phase", "h", "k", "l", "dq"]]
    known = known.assign(phase=known["phase"].map(lambda slug: names.get(slug, slug)))
    return run.peaks(frame=frame).merge(known, on="peak", how="left").sort_values("q")

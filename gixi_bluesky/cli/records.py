"""The JSON object and the table that `process` shows of each frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from rich.console import Console

from gixi_bluesky.cli.peak_table import Shown, explained, peak_table, phase_line, split

__all__ = ["SHOWN", "FrameRecord"]

SHOWN = Shown()
_MATCH = ["phase", "probability", "n_matched", "n_expected"]
_MATCH_PEAK = ["peak", "h", "k", "l", "dq"]


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """The result of one image; the tables have the columns of the derived run."""

    image: str
    status: str = "ok"
    reason: str = ""
    peaks: pd.DataFrame = field(default_factory=pd.DataFrame)
    matches: pd.DataFrame = field(default_factory=pd.DataFrame)
    match_peaks: pd.DataFrame = field(default_factory=pd.DataFrame)
    textures: pd.DataFrame = field(default_factory=pd.DataFrame)
    steps: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return JSON types only; NaN and infinity are null."""
        return {
            "image": self.image,
            "status": self.status,
            "reason": self.reason,
            "peaks": _rows(self.peaks),
            "matches": [
                {**match, "peaks": _rows(self._peaks_of(match["phase"])[_MATCH_PEAK])}
                for match in _rows(self.matches.reindex(columns=_MATCH))
            ],
            **({} if self.textures.empty else {"textures": _rows(self.textures)}),
            **({"steps": {n: _rows(t) for n, t in self.steps.items()}} if self.steps else {}),
        }

    def show(self, console: Console, shown: Shown = SHOWN) -> None:
        """Print the phases and a table of peaks for people."""
        console.print(f"[bold]{self.image}[/]", soft_wrap=True, highlight=False)
        if self.status != "ok":
            console.print(f"  {self.status}: {self.reason}", markup=False, highlight=False)
            return
        for _, row in self.matches.iterrows():
            console.print(f"  {phase_line(row)}", markup=False, highlight=False)
        peaks, hidden = split(self.peaks, shown)
        if len(peaks):
            rows = explained(peaks, self.matches, self.match_peaks)
            console.print(peak_table(rows, console.width))
        if hidden:
            console.print(f"  {hidden}", markup=False, highlight=False)
        for name, table in self.steps.items():
            console.print(f"  {name}:", markup=False, highlight=False)
            text = table.to_string(index=False)
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    def rows(self) -> pd.DataFrame:
        """Return all peaks with their image, phase and line, as `--csv` writes them."""
        if self.peaks.empty:
            return pd.DataFrame()
        rows = explained(self.peaks, self.matches, self.match_peaks)
        rows.insert(0, "image", self.image)
        return rows

    def _peaks_of(self, phase: str) -> pd.DataFrame:
        if self.match_peaks.empty:
            return pd.DataFrame(columns=_MATCH_PEAK)
        return self.match_peaks[self.match_peaks["phase"] == phase]


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    return rows

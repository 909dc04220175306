"""The JSON object and the table that `process` shows of each frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

__all__ = ["FrameRecord"]

_MATCH = ["phase", "probability", "n_matched", "n_expected"]
_MATCH_PEAK = ["peak", "h", "k", "l", "dq"]


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """What was found in one image; the tables have the columns of the derived run."""

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

    def show(self, console: Console) -> None:
        """Print the phases and a table of peaks for people."""
        console.print(f"[bold]{self.image}[/]", soft_wrap=True, highlight=False)
        if self.status != "ok":
            console.print(f"  {self.status}: {self.reason}", markup=False, highlight=False)
            return
        for row in self.matches.itertuples():
            console.print(
                f"  {row.phase}: probability {row.probability:.2f}, "
                f"{row.n_matched} of {row.n_expected} lines",
                markup=False,
                highlight=False,
            )
        console.print(self._peak_table())
        for name, rows in self.steps.items():
            console.print(f"  {name}:", markup=False, highlight=False)
            text = rows.to_string(index=False)
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _peak_table(self) -> Table:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in ("|q| (1/Å)", "phi (deg)", "intensity", "snr", "kind", "hkl"):
            table.add_column(name, no_wrap=True)
        for row in self.peaks.sort_values("q").to_dict("records"):
            table.add_row(
                f"{row['q']:.4f} ± {row['q_error']:.4f}",
                f"{row['phi']:.1f}",
                f"{row['intensity']:.4g} ± {row['intensity_error']:.2g}",
                f"{row['snr']:.1f}",
                row["kind"],
                self._hkl(row["peak"]),
            )
        return table

    def _hkl(self, peak: int) -> str:
        """Return the line that a peak is assigned to, of the most probable phase that has one."""
        if self.match_peaks.empty:
            return ""
        of_peak = self.match_peaks[self.match_peaks["peak"] == peak]
        order = {phase: i for i, phase in enumerate(self.matches["phase"])}
        names = sorted(
            (order[row.phase], f"{row.phase} {row.h} {row.k} {row.l}")
            for row in of_peak.itertuples()
            if row.phase in order
        )
        return names[0][1] if names else ""

    def _peaks_of(self, phase: str) -> pd.DataFrame:
        if self.match_peaks.empty:
            return pd.DataFrame(columns=_MATCH_PEAK)
        return self.match_peaks[self.match_peaks["phase"] == phase]


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    return rows

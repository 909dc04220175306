"""The table of peaks that `process` shows of each image, and the one it writes as CSV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from gixi_bluesky.plurals import counted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Shown", "explained", "peak_table", "phase_line", "split"]

_FLAGS = {1: "f", 2: "c", 4: "b", 8: "s"}  # bits of fit_flags: failed, cut, blended, shape
_FAILED = 1
_WIDE = 76  # columns from which on there is room for the intensity
_KINDS = {"segment": "seg"}


@dataclass(frozen=True, slots=True)
class Shown:
    """The selection of peaks: all, or those with a good fit and at least this snr."""

    all_peaks: bool = False
    min_snr: float = 2.0


def split(peaks: pd.DataFrame, shown: Shown) -> tuple[pd.DataFrame, str]:
    """Return the peaks to show, and a note on the hidden ones, "" if all are shown."""
    if shown.all_peaks or peaks.empty:
        return peaks, ""
    failed = (peaks["fit_flags"].to_numpy(int) & _FAILED) != 0
    error = peaks["q_error"].to_numpy(float)
    # An error as large as the peak's width, or a missing one, means a diverged fit.
    with np.errstate(invalid="ignore"):
        failed |= ~(error > 0) | (error > peaks["fwhm_q"].to_numpy(float))
    weak = ~failed & ~(peaks["snr"].to_numpy(float) >= shown.min_snr)
    hidden = failed | weak
    if not hidden.any():
        return peaks, ""
    reasons = [
        text
        for n, text in (
            (int(failed.sum()), f"{failed.sum()} with a failed fit"),
            (int(weak.sum()), f"{weak.sum()} below snr {shown.min_snr:g}"),
        )
        if n
    ]
    found = counted(len(peaks), "peak")
    text = f"{hidden.sum()} of {found} not shown ({', '.join(reasons)}): --all-peaks"
    return peaks[~hidden], text


def explained(
    peaks: pd.DataFrame, matches: pd.DataFrame, match_peaks: pd.DataFrame
) -> pd.DataFrame:
    """Return the peaks by |q| with phase, h, k, l and dq: of the most probable phase there."""
    columns = ["peak", "phase", "h", "k", "l", "dq"]
    if match_peaks.empty:
        return peaks.sort_values("q").assign(phase=None, h=None, k=None, l=None, dq=np.nan)
    order = {phase: i for i, phase in enumerate(matches["phase"])}
    known = match_peaks[match_peaks["phase"].isin(order)]
    known = known.assign(rank=known["phase"].map(order), off=known["dq"].abs())
    known = known.sort_values(["rank", "off"]).drop_duplicates("peak")[columns]
    return peaks.merge(known, on="peak", how="left").sort_values("q")


def peak_table(rows: pd.DataFrame, width: int) -> Table:
    """Return the rows of `explained` as a table for a terminal of `width` columns."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    wide = width >= _WIDE
    for name in ("q (1/Å)", "phi", "I" if wide else "", "snr", "kind", "fit", "line", "dq"):
        if name:
            table.add_column(name, no_wrap=name != "line", overflow="fold")
    for row in rows.to_dict("records"):
        named = isinstance(row["phase"], str)
        intensity = [f"{row['intensity']:.3g}±{row['intensity_error']:.1g}"] if wide else []
        table.add_row(
            f"{row['q']:.4f}±{row['q_error']:.4f}",
            f"{row['phi']:.0f}",
            *intensity,
            f"{row['snr']:.0f}",
            _KINDS.get(row["kind"], row["kind"]),
            "".join(sign for bit, sign in _FLAGS.items() if int(row["fit_flags"]) & bit),
            f"{row['phase']} {row['h']:.0f} {row['k']:.0f} {row['l']:.0f}" if named else "",
            f"{row['dq']:+.4f}" if named else "",
        )
    return table


def phase_line(row: pd.Series) -> str:
    """Return a row of `matches` as a sentence."""
    lines = f"{row['n_matched']} of {counted(row['n_expected'], 'line')}"
    text = f"{row['phase']}: probability {row['probability']:.2f}, {lines}"
    scale, error = row.get("lattice_scale", np.nan), row.get("lattice_scale_error", np.nan)
    if np.isfinite(scale):
        text += f", lattice {scale:.4f}" + (f"±{error:.4f}" if np.isfinite(error) else "")
    return text

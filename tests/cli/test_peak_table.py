"""The table of peaks fits a narrow terminal and hides what is no measurement, saying so."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from gixi_bluesky.cli.peak_table import Shown, explained, split
from gixi_bluesky.cli.records import FrameRecord

MATCHES = pd.DataFrame(
    {
        "phase": ["MAPbBr3_very_long_name", "PbBr2"],
        "probability": [0.98, 0.6],
        "n_matched": [3, 1],
        "n_expected": [4, 9],
        "lattice_scale": [1.0012, np.nan],
        "lattice_scale_error": [0.0003, np.nan],
    }
)
MATCH_PEAKS = pd.DataFrame(
    {
        "peak": [0, 0, 1],
        "phase": ["PbBr2", "MAPbBr3_very_long_name", "PbBr2"],
        "h": [1, 2, 0],
        "k": [0, 0, 2],
        "l": [0, 0, 0],
        "dq": [0.001, -0.0022, 0.003],
    }
)


def peaks(**changes: list[float]) -> pd.DataFrame:
    columns = {
        "peak": [0, 1, 2, 3, 4],
        "q": [2.1183, 1.4976, 2.99, 1.0, 0.5],
        "q_error": [0.0002, 0.0005, 0.66, np.nan, 0.001],
        "phi": [45.0, 3.2, 10.0, 80.0, 5.0],
        "fwhm_q": [0.02] * 5,
        "intensity": [12345.6, 321.0, 5.0, 0.0, 2.0],
        "intensity_error": [120.0, 12.0, 4.0, np.nan, 2.0],
        "snr": [103.0, 26.0, 3.0, np.nan, 1.0],
        "kind": ["ring", "segment", "spot", "ring", "ring"],
        "fit_flags": [0, 4, 0, 1, 0],
    }
    return pd.DataFrame({**columns, **changes})


def test_failed_fits_and_weak_peaks_are_counted_not_shown() -> None:
    shown, reported = split(peaks(), Shown())
    assert shown["peak"].tolist() == [0, 1]
    assert reported == "3 of 5 peaks not shown (2 with a failed fit, 1 below snr 2): --all-peaks"
    assert split(peaks(), Shown(all_peaks=True))[0]["peak"].tolist() == [0, 1, 2, 3, 4]
    assert split(peaks(), Shown(min_snr=50))[0]["peak"].tolist() == [0]


def test_a_peak_is_explained_by_the_most_probable_phase_there() -> None:
    rows = explained(peaks(), MATCHES, MATCH_PEAKS).set_index("peak")
    assert rows.loc[0, "phase"] == "MAPbBr3_very_long_name"
    assert rows.loc[0, ["h", "k", "l", "dq"]].tolist() == [2, 0, 0, -0.0022]
    assert rows.loc[1, "phase"] == "PbBr2"
    assert pd.isna(rows.loc[2, "phase"])


@pytest.mark.parametrize("width", [60, 100])
def test_a_record_is_readable_at_this_width(width: int) -> None:
    text = io.StringIO()
    record = FrameRecord("a.tif", peaks=peaks(), matches=MATCHES, match_peaks=MATCH_PEAKS)
    record.show(Console(file=text, width=width, color_system=None))
    lines = text.getvalue().splitlines()
    assert max(len(line) for line in lines) <= max(width, 70)  # the sentence below may be longer
    table = [line for line in lines if "±" in line and "probab" not in line]
    assert all(len(line) <= width for line in table)
    assert "2.1183±0.0002" in text.getvalue()
    assert "-0.0022" in text.getvalue()
    assert "lattice 1.0012±0.0003" in text.getvalue()
    assert "2.99" not in text.getvalue()
    assert ("1.23e+04" in text.getvalue()) is (width == 100)


def test_csv_rows_hold_every_peak_with_its_image() -> None:
    record = FrameRecord("a.tif", peaks=peaks(), matches=MATCHES, match_peaks=MATCH_PEAKS)
    rows = record.rows()
    assert len(rows) == 5
    assert set(rows["image"]) == {"a.tif"}
    assert {"phase", "h", "k", "l", "dq", "fit_flags"} <= set(rows.columns)

"""The tables of a run: rows as one array per column, with a unit and a meaning for each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BLENDED",
    "CUT",
    "FIT_FAILED",
    "FWHM_PER_SIGMA",
    "MISFIT",
    "Column",
    "Courses",
    "MatchPeaks",
    "Matches",
    "Peaks",
    "Table",
    "TextureTable",
    "columns_of",
    "missing_values",
    "numbered",
]

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))  # of a Gaussian, the shape that fwhm columns mean
FIT_FAILED, CUT, BLENDED, MISFIT = 1, 2, 4, 8  # bits of Peaks.fit_flags


def _column(unit: str, description: str, dtype: str = "<f8") -> Any:
    return field(metadata={"unit": unit, "description": description, "dtype": dtype})


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a stored table: its name, numpy dtype string, unit and meaning."""

    name: str
    dtype: str
    unit: str
    description: str


def columns_of(table: type[Table]) -> tuple[Column, ...]:
    """Return the columns of a table class in their stored order."""
    return tuple(
        Column(f.name, f.metadata["dtype"], f.metadata["unit"], f.metadata["description"])
        for f in fields(table)
    )


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as one array per column, all of one length."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def items(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield (column name, values) in stored order."""
        for f in fields(self):
            yield f.name, getattr(self, f.name)

    def frame(self) -> pd.DataFrame:
        """Return the rows as a pandas table."""
        import pandas as pd

        return pd.DataFrame(dict(self.items()))

    @classmethod
    def empty(cls) -> Any:
        """Return the table without rows."""
        return cls(**{c.name: np.empty(0, _memory_dtype(c.dtype)) for c in columns_of(cls)})

    @classmethod
    def from_columns(cls, **columns: NDArray[Any]) -> Any:
        """Build the table from columns of one length; those not given are NaN, empty or -1.

        Raises TypeError for a column that the table does not have.
        """
        n = len(next(iter(columns.values()), ()))
        given = {c.name: columns.pop(c.name, None) for c in columns_of(cls)}
        if columns:
            message = f"{cls.__name__} has no columns {sorted(columns)}"
            raise TypeError(message)
        return cls(
            **{
                c.name: missing_values(c, n) if given[c.name] is None else given[c.name]
                for c in columns_of(cls)
            }
        )

    @classmethod
    def from_rows(cls, rows: list[dict[str, Any]]) -> Any:
        """Build the table from one dict a row; values that a row lacks are NaN, empty or -1."""
        missing = {c.name: missing_values(c, 1)[0] for c in columns_of(cls)}
        return cls(
            **{
                c.name: np.array(
                    [row.get(c.name, missing[c.name]) for row in rows],
                    dtype=_memory_dtype(c.dtype),
                )
                for c in columns_of(cls)
            }
        )


def missing_values(column: Column, n: int) -> NDArray[Any]:
    """Return (n,) values that say that the column has none: NaN, empty text or -1."""
    value: Any = {"f": np.nan, "i": -1, "U": ""}[column.dtype[1]]
    return np.full(n, value, dtype=_memory_dtype(column.dtype))


def _memory_dtype(dtype: str) -> np.dtype[Any]:
    return np.dtype(object) if dtype.startswith("<U") else np.dtype(dtype)


@dataclass(frozen=True, slots=True)
class Peaks(Table):
    """The peaks of one frame, a row each; positions and intensities from the unaltered data."""

    peak: Int64 = _column("", "index of the peak within its frame", "<i8")
    q: Float64 = _column("1/angstrom", "|q| of the fitted centre")
    q_error: Float64 = _column("1/angstrom", "standard error of q")
    phi: Float64 = _column("deg", "polar angle of the centre, 0 along q_xy")
    q_xy: Float64 = _column("1/angstrom", "in-plane component of q at the centre")
    q_z: Float64 = _column("1/angstrom", "out-of-plane component of q at the centre")
    fwhm_q: Float64 = _column("1/angstrom", "full width at half maximum along |q|")
    fwhm_phi: Float64 = _column("deg", "full width at half maximum along phi")
    x0: Float64 = _column("pixel", "left edge of the box, column of the searched image")
    y0: Float64 = _column("pixel", "lower edge of the box, row of the searched image")
    x1: Float64 = _column("pixel", "right edge of the box, column of the searched image")
    y1: Float64 = _column("pixel", "upper edge of the box, row of the searched image")
    score: Float64 = _column("", "the detector's confidence, 0 to 1")
    snr: Float64 = _column("", "intensity over its standard error")
    intensity: Float64 = _column(
        "counts deg/angstrom", "integral of (I - background) over q and phi, counts per pixel"
    )
    intensity_error: Float64 = _column("counts deg/angstrom", "standard error of intensity")
    background: Float64 = _column("counts", "mean background per detector pixel under the peak")
    kind: NDArray[np.object_] = _column("", "ring, segment or spot", "<U8")
    fit_flags: Int64 = _column(
        "", "bits: 1 fit failed, 2 cut, 4 blended, 8 shape does not fit", "<i8"
    )
    graininess: Float64 = _column(
        "", "scatter of the intensity along phi beyond counting and texture, NaN = unknown"
    )
    phi_error: Float64 = _column("deg", "standard error of phi, NaN = unknown")
    fwhm_q_error: Float64 = _column("1/angstrom", "standard error of fwhm_q, NaN = unknown")
    fwhm_phi_error: Float64 = _column("deg", "standard error of fwhm_phi, NaN = unknown")


@dataclass(frozen=True, slots=True)
class Matches(Table):
    """The candidate phases of one frame, a row each, most probable first."""

    phase: NDArray[np.object_] = _column("", "slug of the phase", "<U64")
    probability: Float64 = _column("", "probability that the phase is present")
    intensity_fraction: Float64 = _column("", "share of the observed intensity it explains")
    n_matched: Int64 = _column("", "expected lines that were found", "<i8")
    n_expected: Int64 = _column("", "lines expected above the noise in the visible range", "<i8")
    lattice_scale: Float64 = _column("", "fitted lattice over the CIF's, 1 = as in the CIF")
    lattice_scale_error: Float64 = _column("", "standard error of lattice_scale")
    cell_a: Float64 = _column("angstrom", "refined cell length a")
    cell_b: Float64 = _column("angstrom", "refined cell length b")
    cell_c: Float64 = _column("angstrom", "refined cell length c")
    cell_alpha: Float64 = _column("deg", "cell angle alpha")
    cell_beta: Float64 = _column("deg", "cell angle beta")
    cell_gamma: Float64 = _column("deg", "cell angle gamma")
    contact_h: Float64 = _column("", "h of the plane parallel to the substrate, NaN = unknown")
    contact_k: Float64 = _column("", "k of the plane parallel to the substrate, NaN = unknown")
    contact_l: Float64 = _column("", "l of the plane parallel to the substrate, NaN = unknown")
    mosaic_deg: Float64 = _column("deg", "FWHM of the orientation about the contact plane")
    group: NDArray[np.object_] = _column(
        "", "slugs of the phases that this image cannot distinguish, comma-separated", "<U200"
    )
    cell_a_error: Float64 = _column("angstrom", "standard error of cell_a, NaN = not determined")
    cell_b_error: Float64 = _column("angstrom", "standard error of cell_b, NaN = not determined")
    cell_c_error: Float64 = _column("angstrom", "standard error of cell_c, NaN = not determined")
    cell_alpha_error: Float64 = _column("deg", "standard error of cell_alpha")
    cell_beta_error: Float64 = _column("deg", "standard error of cell_beta")
    cell_gamma_error: Float64 = _column("deg", "standard error of cell_gamma")
    contact_probability: Float64 = _column("", "probability of the contact plane")
    mosaic_error_deg: Float64 = _column("deg", "standard error of mosaic_deg")
    random_fraction: Float64 = _column("", "share of the phase without preferred orientation")
    zero_error: Float64 = _column(
        "1/angstrom", "shift of |q| that all phases of the frame have in common"
    )


@dataclass(frozen=True, slots=True)
class MatchPeaks(Table):
    """The reflections assigned to peaks, a row each."""

    peak: Int64 = _column("", "index of the peak within its frame", "<i8")
    phase: NDArray[np.object_] = _column("", "slug of the phase", "<U64")
    h: Int64 = _column("", "Miller index h", "<i8")
    k: Int64 = _column("", "Miller index k", "<i8")
    l: Int64 = _column("", "Miller index l", "<i8")  # noqa: E741 - the field's name
    dq: Float64 = _column("1/angstrom", "observed minus expected |q|")
    contact_angle_deg: Float64 = _column(
        "deg", "angle between the reflecting plane and the contact plane"
    )


@dataclass(frozen=True, slots=True)
class TextureTable(Table):
    """The orientation of each configured ring of one frame, a row each; NaN = not determined."""

    name: NDArray[np.object_] = _column("", "name of the texture", "<U40")
    phase: NDArray[np.object_] = _column("", "slug of the phase, empty = none stated", "<U64")
    hermans: Float64 = _column("", "Hermans parameter: 1 face-on, 0 random, -0.5 edge-on")
    hermans_error: Float64 = _column("", "standard error of hermans, missing wedge included")
    face_on: Float64 = _column("", "share of the planes tilted by face_on_deg")
    edge_on: Float64 = _column("", "share of the planes tilted by edge_on_deg")
    random_fraction: Float64 = _column("", "share of the planes without preferred orientation")
    fwhm_deg: Float64 = _column("deg", "full width at half maximum of the orientation")
    fwhm_error_deg: Float64 = _column("deg", "standard error of fwhm_deg")
    coverage: Float64 = _column("", "share of the hemisphere that the detector sees")


@dataclass(frozen=True, slots=True)
class Courses(Table):
    """Every track in every frame, a row each, whether the detector found it there or not."""

    # The column hides Table.frame(), which rows that know their frame do not need.
    frame: Int64 = _column(  # type: ignore[assignment]
        "", "0-based position of the image in its stream and key", "<i8"
    )
    track: Int64 = _column("", "identity of the peak over frames", "<i8")
    q: Float64 = _column("1/angstrom", "|q| measured, NaN = too weak to be placed")
    q_error: Float64 = _column("1/angstrom", "standard error of q")
    intensity: Float64 = _column(
        "counts deg/angstrom", "integral over the background, may be negative; NaN = no data"
    )
    intensity_error: Float64 = _column("counts deg/angstrom", "standard error of intensity")
    upper_limit: Float64 = _column("counts deg/angstrom", "95 % upper limit of the intensity")
    detected: Int64 = _column("", "1 = the detector found the peak in this frame, else 0", "<i8")
    reason: NDArray[np.object_] = _column("", "why there is no measurement, else empty", "<U200")
    place_q: Float64 = _column("1/angstrom", "|q| at which the intensity is measured")
    place_phi: Float64 = _column("deg", "polar angle at which the intensity is measured")


def numbered(table: Table, index: int, *, track: bool = False) -> pd.DataFrame:
    """Return the rows of a table with `frame`, and for peaks `track`, as they are stored."""
    rows = table.frame()
    rows.insert(0, "frame", index)
    if track:
        rows.insert(2, "track", -1)
    return rows

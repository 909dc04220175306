"""Numbers that sum up a pole figure: Hermans parameter, fractions, width.

Hermans' orientation parameter is S = (3 <cos² chi> - 1) / 2 with the mean over the sphere,
<cos² chi> = sum(I cos² chi sin chi) / sum(I sin chi): 1 = all planes parallel to the substrate,
0 = random, -1/2 = all upright (Hermans & Platzek, Kolloid-Z. 88 (1939) 68).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.tables import TextureTable
from gixi_bluesky.processing.texture.pole_figure import Distribution, PoleFigure, fit_distribution
from gixi_bluesky.processing.texture.settings import TextureSettings
from gixi_bluesky.processing.types import Cut

__all__ = ["texture_row", "texture_table"]

Float64 = NDArray[np.float64]

_LEAST_COVERAGE = 0.3
_SIGNIFICANT = 3.0


def texture_table(settings: Mapping[str, TextureSettings], cuts: Mapping[str, Cut]) -> TextureTable:
    """Return a row for each texture; `cuts` are the cuts of `settings` by the same names."""
    rows = [texture_row(name, one, PoleFigure.of(cuts[name])) for name, one in settings.items()]
    table: TextureTable = TextureTable.from_rows(rows)
    return table


def texture_row(name: str, settings: TextureSettings, figure: PoleFigure) -> dict[str, object]:
    """Return the columns of one texture; NaN where the ring does not determine them.

    What the missing wedge hides is taken from the fitted distribution, or from the nearest tilt
    that is seen where there is none; half of it counts as uncertain.
    """
    row: dict[str, object] = {
        "name": name,
        "phase": settings.phase,
        "coverage": figure.coverage,
    }
    seen = figure.seen
    total = float((figure.intensity * figure.weight)[seen].sum())
    total_error = float(np.sqrt(((figure.error * figure.weight)[seen] ** 2).sum()))
    if figure.coverage < _LEAST_COVERAGE or total < _SIGNIFICANT * total_error:
        return row
    model = fit_distribution(figure)
    intensity, error, hidden = _completed(figure, model)
    share = intensity * figure.weight
    whole = float(share.sum())

    def mean(values: Float64) -> tuple[float, float]:
        """Return the mean over the sphere with its standard error."""
        average = float((share * values).sum() / whole)
        slope = figure.weight * (values - average) / whole
        # Errors of seen bins are independent, those of hidden ones rise and fall together.
        variance = float(((slope * error)[seen] ** 2).sum())
        together = float(np.abs(slope[~seen] * hidden[~seen]).sum())
        return average, math.hypot(math.sqrt(variance), together)

    squared, squared_error = mean(np.cos(np.radians(figure.chi)) ** 2)
    row |= {
        "hermans": (3 * squared - 1) / 2,
        "hermans_error": 1.5 * squared_error,
        "face_on": mean(_within(figure.chi, settings.face_on_deg))[0],
        "edge_on": mean(_within(figure.chi, settings.edge_on_deg))[0],
    }
    if model is None:  # no orientation stands out
        return row | {"random_fraction": 1.0}
    level = float(model.parameters[0])
    return row | {
        "random_fraction": min(level * float(figure.weight.sum()) / whole, 1.0),
        "fwhm_deg": model.fwhm_deg,
        "fwhm_error_deg": model.fwhm_error_deg,
    }


def _completed(figure: PoleFigure, model: Distribution | None) -> tuple[Float64, Float64, Float64]:
    """Return intensity and error with hidden tilts filled in, and how uncertain these are."""
    seen = figure.seen
    nearest = np.interp(figure.chi, figure.chi[seen], figure.intensity[seen])
    filled = nearest if model is None else model.at(figure.chi)
    uncertain = np.abs(filled) / 2
    if model is not None:
        uncertain = np.hypot(uncertain, model.error_at(figure.chi))
    intensity = np.where(seen, np.nan_to_num(figure.intensity), np.maximum(filled, 0))
    error = np.where(seen, np.nan_to_num(figure.error), 0.0)
    return intensity, error, np.where(seen, 0.0, uncertain)


def _within(chi: Float64, limits: tuple[float, float]) -> Float64:
    low, high = limits
    inside = (chi >= low) & (chi < high)
    return inside.astype(np.float64)

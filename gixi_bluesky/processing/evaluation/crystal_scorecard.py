"""Accuracy of refined cells, contact planes and mosaics of the phases that were found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.evaluation.mixtures import Mixture
from gixi_bluesky.processing.simulation.texture import Cell, reciprocal_basis
from gixi_bluesky.processing.tables import FWHM_PER_SIGMA, Matches

__all__ = [
    "NORMAL_SIGMA",
    "CrystalScorecard",
    "FoundCrystal",
    "crystal_scorecard",
    "found_crystals",
    "same_plane",
]

Float64 = NDArray[np.float64]
Hkl = tuple[int, int, int]

STRONG_LINES = 8  # visible lines of a phase whose cell is judged
FEWEST_OFF_AXIS = 3  # visible peaks off the axes of a phase whose orientation is judged
MOSAIC_TOLERANCE = 0.15
NORMAL_SIGMA = 1.4826  # standard deviation over the median of absolute values
_LENGTHS = ("cell_a", "cell_b", "cell_c")


@dataclass(frozen=True, slots=True)
class FoundCrystal:
    """One present phase that was found more probable than not.

    strain, strain_error: (m,) of its determined lengths, relative to the true ones
    right_plane: whether the contact plane is right; mosaic: over the true one; None = not judged
    """

    n_visible: int
    strain: Float64
    strain_error: Float64
    right_plane: bool | None
    mosaic: float | None


@dataclass(frozen=True, slots=True)
class CrystalScorecard:
    """Figures of the refinement over many frames; NaN = no phase to judge.

    cells: phases of at least STRONG_LINES visible lines; length_error: median of |da| / a
    length_pull: width of da over its error, 1 = the errors are true
    fibres: textured phases of at least FEWEST_OFF_AXIS visible peaks off the axes; right_planes:
        share with the right contact plane; right_mosaics: of those with a mosaic, the share within
        MOSAIC_TOLERANCE of the true one
    """

    cells: int
    length_error: float
    length_pull: float
    fibres: int
    right_planes: float
    right_mosaics: float


def found_crystals(frame: Mixture, matches: Matches) -> Iterator[FoundCrystal]:
    """Compare the phases of a frame that were found with the true ones."""
    row_of = {str(slug): row for row, slug in enumerate(matches.phase)}
    for phase in frame.present:
        row = row_of.get(phase.structure.slug, -1)
        if row < 0 or matches.probability[row] <= 0.5:
            continue
        found = np.array([getattr(matches, name)[row] for name in _LENGTHS])
        error = np.array([getattr(matches, f"{name}_error")[row] for name in _LENGTHS])
        known = np.isfinite(error) & (error > 0)
        true = np.array(phase.cell[:3])
        right, mosaic = None, None
        if phase.texture.contact is not None and phase.n_off_axis >= FEWEST_OFF_AXIS:
            contact = [getattr(matches, f"contact_{index}")[row] for index in "hkl"]
            right = bool(np.isfinite(contact).all()) and same_plane(
                phase.structure.cell, _whole(contact), phase.texture.contact
            )
            ratio = float(matches.mosaic_deg[row] / (FWHM_PER_SIGMA * phase.texture.mosaic_deg))
            mosaic = ratio if right and np.isfinite(ratio) else None
        yield FoundCrystal(
            phase.n_visible, (found / true - 1)[known], (error / true)[known], right, mosaic
        )


def crystal_scorecard(crystals: Sequence[FoundCrystal]) -> CrystalScorecard:
    """Return the figures of found phases."""
    strong = [c for c in crystals if c.n_visible >= STRONG_LINES]
    strain = np.concatenate([np.empty(0), *(c.strain for c in strong)])
    error = np.concatenate([np.empty(0), *(c.strain_error for c in strong)])
    planes = [c.right_plane for c in crystals if c.right_plane is not None]
    mosaics = np.array([c.mosaic for c in crystals if c.mosaic is not None])
    return CrystalScorecard(
        cells=len(strong),
        length_error=float(np.median(abs(strain))) if len(strain) else float("nan"),
        length_pull=NORMAL_SIGMA * float(np.median(abs(strain / error)))
        if len(strain)
        else float("nan"),
        fibres=len(planes),
        right_planes=float(np.mean(planes)) if planes else float("nan"),
        right_mosaics=float(np.mean(abs(mosaics - 1) <= MOSAIC_TOLERANCE))
        if len(mosaics)
        else float("nan"),
    )


def same_plane(cell: Cell, one: Hkl, other: Hkl) -> bool:
    """Return whether the lattice makes two planes equivalent.

    They have one spacing, and the families of low index lie at the same angles to both.
    """
    basis = reciprocal_basis(cell)
    indices = np.array([hkl for hkl in np.ndindex(5, 5, 5) if hkl != (2, 2, 2)]) - 2
    vectors = indices @ basis
    lengths = np.linalg.norm(vectors, axis=1)
    families = np.round(lengths, 4)

    def signature(plane: Hkl) -> Float64:
        normal = np.asarray(plane) @ basis
        size = np.linalg.norm(normal)
        cosine = abs(vectors @ normal) / lengths / size
        return np.append(size, cosine[np.lexsort((cosine, families))])

    return bool(np.allclose(signature(one), signature(other), atol=1e-3))


def _whole(contact: Sequence[float]) -> Hkl:
    h, k, el = (round(index) for index in contact)
    return h, k, el

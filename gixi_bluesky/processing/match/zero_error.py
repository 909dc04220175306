"""Errors of |q| that all phases of a frame share: beam centre, sample height, refraction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.bayes_factors import STRAIN_SIGMA, Trials

__all__ = ["CommonErrors", "common_errors"]

Float64 = NDArray[np.float64]

ROUNDS = 3  # of estimating the scatter of the lines, which is mostly below what is assumed
FEWEST_FREE, SMALLEST_SCATTER = 4, 0.1


@dataclass(frozen=True, slots=True)
class CommonErrors:
    """Errors that the lines of the sure phases show.

    zero, zero_sigma: shift and its standard error, 1/angstrom
    scatter: of single lines, as a part of what is assumed; 1 = nothing is known
    """

    zero: float
    zero_sigma: float
    scatter: float


def common_errors(
    tried: Trials, phases: tuple[int, ...], trial: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> CommonErrors:
    """Return the shift and the scatter of single lines.

    Least squares of q_seen = q_line (1 - e) + zero over the matched lines of the phases, with a
    strain e of each phase and the priors of strain and zero error as further observations.
    A feature that two phases explain is left out. With enough lines their own scatter replaces the
    assumed position error where it is smaller; the returned one counts FEWEST_FREE lines more that
    scatter as assumed.
    """
    prior = tried.limits.zero_sigma
    pairs = [tried.pairs(p, int(trial[0][p]), int(trial[1][p])) for p in phases]
    of_phase = np.repeat(np.arange(len(phases)), [len(own) for own in pairs])
    pair = np.concatenate([*pairs, np.empty(0, np.int64)])
    feature = tried.feature_of(pair)
    lone = np.bincount(feature, minlength=len(tried.features))[feature] == 1
    pair, feature, of_phase = pair[lone], feature[lone], of_phase[lone]
    q = tried.lines.q[tried.line_of(pair)]
    # the trial's sigma holds the zero error itself, which is solved for here
    variance = tried.sigma_of(pair).astype(np.float64) ** 2 - prior**2
    sigma = np.sqrt(np.maximum(variance, 1e-12))
    lines = np.zeros((len(pair), len(phases) + 1))
    lines[:, 0] = 1 / sigma
    lines[np.arange(len(pair)), 1 + of_phase] = -q / sigma
    observed = (tried.features.q[feature] - q) / sigma
    known = np.diag([1 / prior, *[1 / STRAIN_SIGMA] * len(phases)])
    scatter, careful = 1.0, 1.0
    for _ in range(ROUNDS):
        design = np.vstack([known, lines / scatter])
        right = np.concatenate([np.zeros(len(known)), observed / scatter])
        covariance = np.linalg.inv(design.T @ design)
        solution = covariance @ design.T @ right
        free = len(lines) - len(known)
        if free >= FEWEST_FREE:
            chi_square = float(((observed - lines @ solution) ** 2).sum())
            scatter = float(np.clip(np.sqrt(chi_square / free), SMALLEST_SCATTER, 1.0))
            careful = min(np.sqrt((chi_square + FEWEST_FREE) / (free + FEWEST_FREE)), 1.0)
    return CommonErrors(float(solution[0]), float(np.sqrt(covariance[0, 0])), float(careful))

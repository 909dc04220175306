"""The shift of |q| that all phases of a frame share: beam centre, sample height, refraction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.bayes_factors import STRAIN_SIGMA, Trials

__all__ = ["common_zero"]

Float64 = NDArray[np.float64]

ROUNDS = 3  # of estimating the scatter of the lines, which is mostly below what is assumed
FEWEST_FREE, SMALLEST_SCATTER = 4, 0.1


def common_zero(
    tried: Trials, phases: tuple[int, ...], trial: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> tuple[float, float]:
    """Return the shift and its standard error, 1/angstrom.

    Least squares of q_seen = q_line (1 - e) + zero over the matched lines of the phases, with a
    strain e of each phase and the priors of strain and zero error as further observations.
    A feature that two phases explain is left out. With enough lines their own scatter replaces the
    assumed position error where it is smaller.
    """
    prior = tried.limits.zero_sigma
    rows: list[Float64] = []
    values: list[float] = []
    pairs = {p: tried.pairs(p, int(trial[0][p]), int(trial[1][p])) for p in phases}
    everything = [tried.feature[own] for own in pairs.values()]
    used, count = np.unique(
        np.concatenate([*everything, np.empty(0, np.int64)]), return_counts=True
    )
    shared = set(used[count > 1].tolist())
    for index, own in enumerate(pairs.values()):
        for pair in own:
            line, feature = tried.line[pair], tried.feature[pair]
            if int(feature) in shared:
                continue
            # the trial's sigma holds the zero error itself, which is solved for here
            sigma = np.sqrt(max(tried.sigma[pair] ** 2 - prior**2, 1e-12))
            row = np.zeros(len(phases) + 1)
            row[0], row[1 + index] = 1 / sigma, -tried.lines.q[line] / sigma
            rows.append(row)
            values.append((tried.features.q[feature] - tried.lines.q[line]) / sigma)
    known = np.diag([1 / prior, *[1 / STRAIN_SIGMA] * len(phases)])
    lines, observed = np.array(rows).reshape(-1, len(known)), np.array(values)
    scatter = 1.0
    for _ in range(ROUNDS):
        design = np.vstack([known, lines / scatter])
        right = np.concatenate([np.zeros(len(known)), observed / scatter])
        covariance = np.linalg.inv(design.T @ design)
        solution = covariance @ design.T @ right
        free = len(lines) - len(known)
        if free >= FEWEST_FREE:
            chi_square = float(((observed - lines @ solution) ** 2).sum() / free)
            scatter = float(np.clip(np.sqrt(chi_square), SMALLEST_SCATTER, 1.0))
    return float(solution[0]), float(np.sqrt(covariance[0, 0]))

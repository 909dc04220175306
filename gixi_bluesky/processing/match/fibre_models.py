"""Candidates as fibres: what their contact planes bring into view, and where along phi."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.match.bayes_factors import LogFactors, Trials
from gixi_bluesky.processing.match.lines import ExpectedLines, Features, Visibility
from gixi_bluesky.processing.match.plane_angles import PlaneAngles
from gixi_bluesky.processing.match.tilts import tilt_table
from gixi_bluesky.processing.match.views import View
from gixi_bluesky.processing.tables import Peaks

__all__ = [
    "FEWEST_SPOTS",
    "LEAST_SEEN",
    "RING_DEG",
    "STRAY",
    "FibreModels",
    "SpotList",
    "fibre_models",
]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

RING_DEG = 40.0  # wider along phi is a ring
STRAY = 0.1  # of the spots, and of the intensity, lies anywhere
FEWEST_SPOTS = 2
MOST_FIBRES = 3  # of a candidate
LEAST_SEEN = 0.2  # of a powder's share; a line with less in view is not expected to be seen
LEAST_LOG_ODDS = -1.0  # of a fibre, by where along phi its spots lie
ALLOWED = 0.3  # of a powder's density
EXPLAINED = 0.5  # of a feature's intensity must lie where a fibre puts any


@dataclass(frozen=True, slots=True)
class SpotList:
    """Narrow peaks by feature: (j,) each.

    first: (features + 1,) where each feature's begin; phi: whole deg
    rest: (features,) intensity of what is not narrow
    """

    first: Int64
    phi: Int64
    intensity: Float64
    rest: Float64

    @classmethod
    def of(cls, features: Features, peaks: Peaks) -> SpotList:
        """Sort the narrow peaks by feature."""
        members = np.concatenate([*features.members, np.empty(0, np.int64)])
        feature = np.repeat(np.arange(len(features)), [len(m) for m in features.members])
        narrow = peaks.fwhm_phi[members] < RING_DEG
        strength = np.maximum(peaks.intensity[members], 0.0)
        return cls(
            first=np.searchsorted(feature[narrow], np.arange(len(features) + 1)),
            phi=np.clip(np.rint(peaks.phi[members[narrow]]), 0, 90).astype(np.int64),
            intensity=strength[narrow],
            rest=np.asarray(
                np.bincount(feature[~narrow], strength[~narrow], len(features)), np.float64
            ),
        )

    def __len__(self) -> int:
        return len(self.phi)

    def on(self, feature: Int64) -> tuple[Int64, Int64]:
        """Return the spots on features (f,) one after the other, and the place of each in f."""
        count = self.first[feature + 1] - self.first[feature]
        place = np.repeat(np.arange(len(feature)), count)
        within = np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count)
        return self.first[feature[place]] + within, place


@dataclass(frozen=True, slots=True)
class FibreModels:
    """Candidates as powders and fibres: (m,) models of (n,) lines.

    lines: owner = the model; structure: (m,) index of each model's candidate
    log_weight: (m,) log prior of the model within its candidate
    mosaic: (n,) index, -1 = of a powder; angle, share: (n, d) as in `PlaneAngles`
    brought: (n,) of the line's intensity in view, 1 = as of a powder
    """

    lines: ExpectedLines
    structure: Int64
    log_weight: Float64
    mosaic: Int64
    angle: NDArray[np.uint8]
    share: Float32
    brought: Float32
    spots: SpotList

    def place(self, line: Int64, feature: Int64) -> tuple[Float32, Bool]:
        """Return how much the phi of a feature's spots supports a line, and if it explains it.

        The factor is the density of the spots under the fibre over that of any other origin, a
        tenth of strays included; n spots of one line count as the root of n.
        """
        factor, explains = np.ones(len(line), np.float32), np.ones(len(line), bool)
        fibre = np.flatnonzero(self.mosaic[line] >= 0)
        spot, place = self.spots.on(feature[fibre])
        if not len(spot):
            return factor, explains
        own = line[fibre][place]
        at = tilt_table()[self.spots.phi[spot][:, None], self.angle[own], self.mosaic[own][:, None]]
        relative = (at * self.share[own]).sum(axis=1) / np.maximum(self.brought[own], LEAST_SEEN)
        count = np.bincount(place, minlength=len(fibre))
        logs = np.bincount(place, np.log((1 - STRAY) * relative + STRAY), len(fibre))
        factor[fibre] = np.exp(logs / np.sqrt(np.maximum(count, 1)))
        strength = self.spots.intensity[spot]
        whole = np.bincount(place, strength, len(fibre))
        within = np.bincount(place, strength * (relative > ALLOWED), len(fibre))
        rest = self.spots.rest[feature[fibre]]
        explains[fibre] = within + rest >= EXPLAINED * (whole + rest)
        return factor, explains


def fibre_models(
    tried: Trials,
    best: LogFactors,
    slots: Int64,
    textured: Bool,
    angles_of: Callable[[int], PlaneAngles],
    spots: SpotList,
    visibility: Visibility,
) -> FibreModels:
    """Return some of the structures tried as powders and, where their spots allow it, as fibres.

    textured: (slots,) which of them to try as fibres
    best: the trial in which most of a structure's lines are found; angles_of: by owner
    Planes have prior weights of 1 / (|h| + |k| + |l|)², mosaics equal ones, powder and fibre one
    half each. The likeliest planes by where along phi the spots lie become models, each with its
    likeliest mosaic.
    """
    view = View.of(visibility) if len(spots) else None
    columns = np.zeros(0, np.int64) if view is None else view.column(tried.lines.q)
    parts: list[_Model] = []
    for slot, as_fibre in zip(slots.tolist(), textured.tolist(), strict=True):
        line = np.arange(*tried.own_lines[slot])
        powder = _Model(int(tried.owners[slot]), line, tried.lines.intensity[line])
        fibres = []
        if view is not None and as_fibre:
            pairs = tried.pairs(slot, int(best.scale[slot]), int(best.amount[slot]))
            column = columns[powder.line]
            fibres = _fibres(tried, pairs, powder, angles_of(powder.structure), spots, view, column)
        parts += [powder, *fibres]
    return _stacked(tried.lines, parts, spots)


@dataclass(frozen=True, slots=True)
class _Model:
    """One texture of one candidate; intensity: (n,) of its lines, the rest as in FibreModels."""

    structure: int
    line: Int64
    intensity: Float64
    log_weight: float = 0.0
    mosaic: int = -1
    angle: NDArray[np.uint8] | None = None
    share: Float32 | None = None
    brought: Float64 | None = None


def _fibres(
    tried: Trials,
    pairs: Int64,
    powder: _Model,
    angles: PlaneAngles,
    spots: SpotList,
    view: View,
    column: Int64,
) -> list[_Model]:
    """Return the likeliest fibres of one candidate; column: (n,) of its lines in the view."""
    spot, place = spots.on(tried.feature_of(pairs))
    if len(spot) < FEWEST_SPOTS:
        return []
    hkl = map(tuple, tried.lines.hkl[powder.line].tolist())
    row = np.array([angles.rows[one] for one in hkl])
    own = (tried.line_of(pairs) - powder.line[0])[place]
    at = angles.at(row[own], spots.phi[spot])
    brought = angles.brought(row[own], view, column[own])
    relative = (1 - STRAY) * at / np.maximum(brought, LEAST_SEEN) + STRAY  # (j, planes, mosaics)
    count = np.bincount(place, minlength=len(pairs))
    logs = np.einsum("j,jpm->pm", count[place] ** -0.5, np.log(relative))
    top = logs.max(axis=1)
    of_plane = top + np.log(np.exp(logs - top[:, None]).mean(axis=1))
    standing = of_plane + np.log(angles.prior)
    if np.log(np.exp(np.minimum(standing, 100)).sum()) < LEAST_LOG_ODDS:
        return []
    models = []
    for plane in np.argsort(-standing, kind="stable")[:MOST_FIBRES].tolist():
        mosaic = int(logs[plane].argmax())
        angle, share = angles.angle[row, plane], angles.share[row, plane]
        in_view = (view.brought[column[:, None], angle, mosaic] * share).sum(axis=1)
        intensity = powder.intensity * ((1 - STRAY) * in_view + STRAY)
        weight = np.log(angles.prior[plane]) + of_plane[plane] - logs[plane, mosaic]
        models.append(
            _Model(
                powder.structure,
                powder.line,
                intensity / intensity.max(),
                float(weight),
                mosaic,
                angle,
                share,
                in_view,
            )
        )
    return models


def _stacked(lines: ExpectedLines, models: Sequence[_Model], spots: SpotList) -> FibreModels:
    line = np.concatenate([*(m.line for m in models), np.empty(0, np.int64)])
    counts = [len(m.line) for m in models]
    most = max((m.angle.shape[1] for m in models if m.angle is not None), default=1)
    angle = np.zeros((len(line), most), np.uint8)
    share = np.zeros((len(line), most), np.float32)
    brought = np.ones(len(line), np.float32)
    first = 0
    for model, count in zip(models, counts, strict=True):
        if model.angle is not None and model.share is not None:
            width = model.angle.shape[1]
            angle[first : first + count, :width] = model.angle
            share[first : first + count, :width] = model.share
            brought[first : first + count] = model.brought
        first += count
    mosaic = np.repeat(np.array([m.mosaic for m in models], np.int64), counts)
    return FibreModels(
        lines=ExpectedLines(
            q=lines.q[line],
            hkl=lines.hkl[line],
            intensity=np.concatenate([*(m.intensity for m in models), np.empty(0)]),
            noise=lines.noise[line],
            owner=np.repeat(np.arange(len(models)), counts),
            spread=lines.spread[line],
            strain=lines.strain[line],
            # a narrow fibre's intensities depend on its tilt by more than is known of it
            calculated=np.where(mosaic < 0, lines.calculated[line], np.float32(0)),
        ),
        structure=np.array([m.structure for m in models], np.int64),
        log_weight=np.array([m.log_weight for m in models]),
        mosaic=mosaic,
        angle=angle,
        share=share,
        brought=brought,
        spots=spots,
    )

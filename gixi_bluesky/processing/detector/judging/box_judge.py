"""The last word on the boxes of a network: each is judged with all others of the frame.

A network sees a part of the image at a time. It marks every crystallite of a coarse powder, finds
two rings on one wide ring, and a ring under a row of spots. A small perceptron, which knows what
else lies at a box's |q| and the profile of the whole image along phi there, corrects its scores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector.boxes import distinct, suppress
from gixi_bluesky.processing.detector.judging.box_context import FEATURES, box_context
from gixi_bluesky.processing.detector.judging.box_lines import SAME_Q, columns_of, is_tall
from gixi_bluesky.processing.detector.judging.ring_proposals import with_proposals
from gixi_bluesky.processing.types import Detections

__all__ = ["FLOOR", "PROPOSED", "BoxJudge", "shipped_judge"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

FLOOR = 0.03  # score below which a box is not looked at
_LEAST_ROWS, _MOST_ROWS = 400, 640
PROPOSED = 2.0  # what a proposal's logit is lower than that of its best piece
_OFFSET = 0.3  # of all logits: recall for precision at the default threshold
_MOST_RISE = 0.3  # of the logit of a box that a network found
_IOU = 0.3
_REPORTED, _PIECES, _RING_OF_PIECES = 0.5, 3, 0.55
# A ring that is not there: of a frame of spots, with nothing between its own ones.
_SHADOW_LOGIT = -2.5
_FEW_TALL, _MANY_BOXES, _MOST_COVERED = 0.2, 20, 0.75
_NO_Z, _NO_SPOTS = 4.0, 6
_FAINT_Z, _FAINT_LEVEL, _FAINT_SPOTS = 8.0, 0.5, 4


@dataclass(frozen=True, slots=True)
class BoxJudge:
    """An ensemble of e perceptrons with two hidden layers of h.

    mean, scale: (features,) of the inputs
    first: (e, h, features), second: (e, h, h), third: (e, h) weights, and their biases
    """

    mean: Float32
    scale: Float32
    first: Float32
    first_bias: Float32
    second: Float32
    second_bias: Float32
    third: Float32
    third_bias: Float32

    def __call__(self, image: Float32, found: Detections) -> Detections:
        """Return the boxes of one prepared image (n_phi, n_q), best first, with new scores.

        Images much lower or higher than those of the fit, 512 rows, are not judged.
        """
        if not _LEAST_ROWS <= len(image) <= _MOST_ROWS:
            return found
        found = found.chosen(found.scores >= FLOOR)
        if not len(found):
            return found
        found, proposed = with_proposals(found, len(image))
        table = box_context(image, found.boxes, found.scores, proposed)
        logits = self.logits(table, proposed)
        scores = expit(np.where(_shadows(table, proposed), _SHADOW_LOGIT, logits))
        scores = _with_rings(found, proposed, len(image), scores)
        judged = replace(found, scores=scores.astype(np.float32))
        judged = judged.chosen(suppress(judged.boxes, judged.scores, _IOU))
        judged = judged.chosen(distinct(judged.boxes, judged.scores))
        return judged.chosen(judged.scores >= FLOOR)

    def save(self, path: Path) -> None:
        """Write the arrays to an npz file."""
        with path.open("wb") as file:
            np.savez(file, **{name: getattr(self, name) for name in self.__slots__})

    def logits(self, table: Float32, proposed: Bool) -> Float64:
        """Return the logits (n,) of boxes whose context is `table` (n, features)."""
        own = table[:, FEATURES.index("logit")].astype(np.float64)
        x = (table - self.mean) / self.scale
        hidden = np.tanh(x @ self.first.transpose(0, 2, 1) + self.first_bias[:, None])
        hidden = np.maximum(hidden @ self.second.transpose(0, 2, 1) + self.second_bias[:, None], 0)
        change = (hidden @ self.third[:, :, None])[..., 0] + self.third_bias[:, None]
        logits = own + change.mean(axis=0) - PROPOSED * proposed + _OFFSET
        return np.where(proposed, logits, np.minimum(logits, own + _MOST_RISE))


@cache
def shipped_judge(name: str) -> BoxJudge:
    """Return a judge that comes with the package; raises WeightsError for an unknown one."""
    path = resources.files("gixi_bluesky.processing") / "weights" / f"{name}.npz"
    if not path.is_file():
        message = (
            f"got the judge {name!r} in a manifest; this version of gixi_bluesky has none of that "
            "name: set it to null, or install the version that wrote the manifest"
        )
        raise WeightsError(message)
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return BoxJudge(**{part: stored[part] for part in BoxJudge.__slots__})


def _with_rings(found: Detections, proposed: Bool, n_rows: int, scores: Float64) -> Float64:
    """Return the scores with a ring wherever several sure pieces would leave nothing at all."""
    boxes = found.boxes.astype(np.float64)
    column, width = columns_of(boxes)
    whole = proposed | is_tall(boxes, n_rows)
    line = np.abs(column[:, None] - column) < SAME_Q * np.maximum(width[:, None], width)
    pieces = (line & (~whole & (found.scores >= _REPORTED))).sum(axis=1)
    scores = scores.copy()
    for ring in np.argsort(-scores, kind="stable"):
        lost = not (scores[line[ring]] >= _REPORTED).any()
        if whole[ring] and pieces[ring] >= _PIECES and lost:
            scores[ring] = _RING_OF_PIECES
    return scores


def _shadows(table: Float32, proposed: Bool) -> Bool:
    """Return which rings of a film of spots are only these spots, (n,)."""
    of = {name: table[:, number].astype(np.float64) for number, name in enumerate(FEATURES)}
    spots = np.expm1(of["small_on_line"]) + 0.1
    between = of["between_significance"]
    nothing = (between < np.log1p(_NO_Z)) & (spots < _NO_SPOTS)
    faint = (between < np.log1p(_FAINT_Z)) & (of["between_level"] < _FAINT_LEVEL)
    faint &= spots < _FAINT_SPOTS
    film = (of["share_tall"] < _FEW_TALL) & (of["boxes"] > np.log1p(_MANY_BOXES) / 3)
    tall = (of["tall"] > 0) & ~proposed & (of["covered"] < _MOST_COVERED) & (spots >= 1)
    return np.asarray(tall & film & (nothing | faint))

"""Context of each box: the other boxes of the frame, and the profile along phi at its |q|."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.detector.judging.box_lines import SAME_Q, columns_of, is_tall
from gixi_bluesky.processing.detector.judging.phi_profiles import BLOCK, PhiBlockSums, PhiProfiles

__all__ = ["FEATURES", "box_context"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

FEATURES = (
    "logit",
    "log_height",
    "log_width",
    "level",
    "significance",
    "peak",
    "above_rest",
    "rest_level",
    "rest_lit",
    "free_level",
    "free_significance",
    "between_level",
    "between_significance",
    "covered",
    "beyond_low",
    "beyond_high",
    "small_on_line",
    "small_beside_line",
    "tall_on_line",
    "rival",
    "rival_distance",
    "container",
    "boxes",
    "share_tall",
    "crowding",
    "low_q",
    "unevenness",
    "kinds_of_heights",
    "stands_out",
    "roughness",
    "tall",
    "proposed",
)

_ROWS = 512  # of the images that trained the judge
_COUNTED = 0.25  # score of boxes that say something about the others
_NEAR_LINE = 5.0  # of the larger width
_LIT = 1.7  # standard errors of three blocks
_CLIP = 8.0


@dataclass(frozen=True, slots=True)
class _Boxes:
    """Boxes (n,) in pixels: centres, widths and rows; pairs (n, n) are of box i and box k.

    n_rows: of the image; found: boxes that are no proposals
    """

    n_rows: int
    column: Float64
    width: Float64
    top: Float64
    bottom: Float64
    scores: Float64
    tall: Bool
    found: Bool

    @classmethod
    def of(cls, boxes: Float32, scores: Float32, n_rows: int, proposed: Bool) -> _Boxes:
        wide = boxes.astype(np.float64)
        column, width = columns_of(wide)
        return cls(
            n_rows=n_rows,
            column=column,
            width=width,
            top=wide[:, 1],
            bottom=wide[:, 3],
            scores=scores.astype(np.float64),
            tall=is_tall(wide, n_rows),
            found=~proposed,
        )

    @property
    def counted(self) -> Bool:
        return self.found & (self.scores >= _COUNTED)

    @property
    def height(self) -> Float64:
        return self.bottom - self.top + 1

    def distance(self) -> Float64:
        """Return the distance along q of every pair, in units of the larger width."""
        larger = np.maximum(self.width[:, None], self.width)
        apart = np.abs(self.column[:, None] - self.column) / larger
        np.fill_diagonal(apart, np.inf)
        return apart

    def shared(self) -> Float64:
        """Return the rows that box i and box k share, over those of the lower one."""
        low = np.maximum(self.top[:, None], self.top)
        high = np.minimum(self.bottom[:, None], self.bottom)
        least = np.minimum(self.height[:, None], self.height)
        return np.maximum(high - low + 1, 0) / least


def box_context(image: Float32, boxes: Float32, scores: Float32, proposed: Bool) -> Float32:
    """Return (n, len(FEATURES)) numbers of order one for boxes (n, 4) of a prepared image.

    proposed: (n,) boxes that are proposals; they say nothing about the others
    """
    b = _Boxes.of(boxes, scores, len(image), proposed)
    sums = PhiBlockSums(image)
    profiles = sums.profiles(b.column, b.width)
    columns = {**_own(b), **_along(b, profiles, sums.blocks), **_beside(b)}
    n = len(boxes)
    counted = b.counted
    many = max(int(counted.sum()), 1)
    columns["tall"] = b.tall.astype(float)
    columns["proposed"] = proposed.astype(float)
    columns["boxes"] = np.full(n, np.log1p(many) / 3)
    columns["share_tall"] = np.full(n, float((b.tall & counted).sum()) / many)
    columns["crowding"] = np.full(n, float(columns["small_on_line"][counted].sum()) / many)
    table = np.stack([columns[name] for name in FEATURES], axis=1)
    return np.clip(table, -_CLIP, _CLIP).astype(np.float32)


def _own(b: _Boxes) -> dict[str, Float64]:
    p = np.clip(b.scores, 1e-4, 1 - 1e-4)
    return {
        "logit": np.log(p / (1 - p)),
        "log_height": np.log(b.height * _ROWS / b.n_rows) - 4,
        "log_width": np.log(b.width) - 2,
        "low_q": np.exp(-b.column / 100),
    }


def _along(b: _Boxes, profiles: PhiProfiles, blocks: int) -> dict[str, Float64]:
    """Return what the profiles along phi say of the boxes and of what lies beyond them."""
    edges = np.arange(blocks) * BLOCK
    inside = (edges + BLOCK > b.top[:, None]) & (edges <= b.bottom[:, None])
    known, excess, noise = profiles.known, profiles.excess, profiles.noise
    mine, rest = inside & known, ~inside & known
    level, n_mine = _mean(excess, mine)
    rest_level, n_rest = _mean(excess, rest)
    smooth = profiles.smooth()
    peak = np.where(mine, smooth, -1).max(axis=1, initial=-1)
    lit = smooth > _LIT * noise[:, None] / np.sqrt(3) + 0.15 * np.maximum(level, 0)[:, None]
    small = _small_on(b)
    taken = (small @ inside.astype(float) > 0) & inside
    between, n_between = _mean(excess, mine & ~taken)
    on_line = _small_on(b, least_ratio=0.0)
    crowded = on_line @ inside.astype(float) > 0
    free, n_free = _mean(excess, rest & ~crowded)
    # How uneven the line is elsewhere; for a ring, how uneven it is itself.
    elsewhere = np.where(b.tall[:, None], mine, rest)
    bends = np.abs(np.diff(excess, n=2, axis=1)) / np.sqrt(6)
    steady = elsewhere[:, 2:] & elsewhere[:, 1:-1] & elsewhere[:, :-2]
    rough = np.maximum(_mean(bends, steady)[0], noise)
    reach = np.maximum(b.height * 0.25, 1.5 * BLOCK)
    low = known & (edges < b.top[:, None]) & (edges + BLOCK >= (b.top - reach)[:, None])
    high = known & (edges > b.bottom[:, None]) & (edges <= (b.bottom + reach)[:, None])
    scatter = np.sqrt(_mean((excess - level[:, None]) ** 2, mine)[0])
    safe = np.maximum(np.maximum(level, peak / 2), noise)
    return {
        "level": 3 * level,
        "significance": np.log1p(np.maximum(level / noise * np.sqrt(n_mine), 0)),
        "peak": 3 * peak,
        "above_rest": (peak - rest_level) / safe,
        "rest_level": rest_level / safe,
        "rest_lit": (lit & rest).sum(axis=1) / np.maximum(n_rest, 1),
        "free_level": free / safe,
        "free_significance": _signed_log(free / noise * np.sqrt(n_free)),
        "between_level": between / safe,
        "between_significance": _signed_log(between / noise * np.sqrt(n_between)),
        "covered": 1 - n_between / np.maximum(n_mine, 1),
        "beyond_low": _mean(excess, low)[0] / safe,
        "beyond_high": _mean(excess, high)[0] / safe,
        "unevenness": scatter / safe,
        "stands_out": _signed_log((peak - rest_level) / rough),
        "roughness": np.log(rough / noise),
    }


def _small_on(b: _Boxes, least_ratio: float = 2.0) -> Float64:
    """Return (n, n) 1 where box k is counted, at the |q| of box i, no ring and lower than it.

    least_ratio: of the heights of box i and box k
    """
    small = (b.distance() < SAME_Q) & b.counted & ~b.tall
    small &= b.height[:, None] > least_ratio * b.height
    return small.astype(float)


def _beside(b: _Boxes) -> dict[str, Float64]:
    """Return what the other boxes say."""
    distance, shared = np.where(b.found, b.distance(), np.inf), b.shared()
    counted = b.counted
    low = counted & ~b.tall
    on_line = distance < SAME_Q
    near = ~on_line & (distance < _NEAR_LINE)
    alike = np.minimum(b.height[:, None], b.height) > 0.3 * np.maximum(b.height[:, None], b.height)
    rivals = alike & (distance < 1.5) & (shared > 0.4)
    rival = np.where(rivals, b.scores, 0)
    best = rival.argmax(axis=1) if len(distance) else np.zeros(0, int)
    rows = np.arange(len(distance))
    strongest = rival[rows, best]
    holds = on_line & (b.height > 2 * b.height[:, None]) & (shared > 0.7)
    heights = np.where(on_line & low, np.log(b.height), 0)
    number = (on_line & low).sum(axis=1)
    mean = heights.sum(axis=1) / np.maximum(number, 1)
    spread = np.where(on_line & low, (np.log(b.height) - mean[:, None]) ** 2, 0).sum(axis=1)
    return {
        "small_on_line": np.log1p(number),
        "small_beside_line": np.log1p((near & low).sum(axis=1)) / 2,
        "tall_on_line": np.where(on_line & b.tall, b.scores, 0).max(axis=1, initial=0),
        "rival": strongest - np.where(strongest > 0, b.scores, 0),
        "rival_distance": np.where(strongest > 0, distance[rows, best], 2.0),
        "container": np.where(holds, b.scores, 0).max(axis=1, initial=0),
        "kinds_of_heights": np.sqrt(spread / np.maximum(number, 1)),
    }


def _mean(values: Float64, chosen: Bool) -> tuple[Float64, Float64]:
    count = chosen.sum(axis=1).astype(np.float64)
    return np.where(chosen, values, 0).sum(axis=1) / np.maximum(count, 1), count


def _signed_log(values: Float64) -> Float64:
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))

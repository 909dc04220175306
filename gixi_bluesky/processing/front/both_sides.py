"""A comparison, at intervals, of the two sides of the beam that the grid folds together."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import GridSettings

__all__ = ["BothSides"]

_COMPARED_EVERY = 50
_AGREE = 0.003


class BothSides:
    """Compares the |q| of rings on both sides of the beam in the first of every 50 frames."""

    def __init__(self, grid: GridSettings) -> None:
        self._folded = grid.side == "fold"
        self._frames = 0

    @property
    def due(self) -> bool:
        """True where the next frame is compared."""
        return self._folded and self._frames % _COMPARED_EVERY == 0

    def warnings(self, remapper: Remapper, frame: NDArray[Any]) -> tuple[str, ...]:
        """Return what a user should know of a frame after `orient`, outliers replaced."""
        due = self.due
        self._frames += 1
        difference = remapper.sides.difference(frame) if due else None
        if difference is None or abs(difference) < _AGREE:
            return ()
        return (
            f"rings lie {difference:+.2%} in |q| on the right of the beam against the left, more "
            f"than {_AGREE:.1%}: check the beam centre's column, or set grid.side",
        )

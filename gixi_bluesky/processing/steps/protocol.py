"""The protocol of a step and its input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Step", "StepColumn", "StepFrame", "StepRow"]

StepRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StepColumn:
    """A column of a step's rows.

    dtype: float, int or str
    """

    name: str
    dtype: type[float] | type[int] | type[str] = float
    unit: str = ""
    description: str = ""


class StepFrame(Protocol):
    """The argument of a step: the result of one frame, as `pipeline(frame)` returns it."""

    @property
    def peaks(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def matches(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def match_peaks(self) -> pd.DataFrame: ...  # noqa: D102
    @property
    def polar_image(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def q(self) -> NDArray[np.float64]: ...  # noqa: D102
    @property
    def phi(self) -> NDArray[np.float64]: ...  # noqa: D102


@runtime_checkable
class Step(Protocol):
    """A computation on each frame's result, whose rows are stored beside it.

    name: identifier; the rows go to the stream `step_<name>`
    columns: of its rows
    version: part of the result hash; raise it when the same frame gives other rows

    A class may have `stateful = True`: one instance then takes the frames of a run in their order
    and may return rows that look back, and `finish()` rows at the end.
    """

    name: str
    columns: tuple[StepColumn, ...]

    def __call__(self, result: Any) -> StepRow | Iterable[StepRow] | None:
        """Return no, one or several rows of a frame, each with every column."""

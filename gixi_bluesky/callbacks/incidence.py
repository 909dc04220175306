"""The incidence angle of each frame, looked up in the run's own documents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gixi_bluesky.callbacks.documents import Descriptor, RunStart
from gixi_bluesky.errors import FrameError
from gixi_bluesky.processing.settings import FromDocument

__all__ = ["IncidenceAngle"]

_DEGREES = {"deg": 1.0, "rad": math.degrees(1.0), "mrad": math.degrees(1e-3)}


class IncidenceAngle:
    """Finds the angle in the event, the device configuration, the baseline or the start document.

    setting: a number, which the pipeline knows itself, or where to look the angle up
    """

    def __init__(self, setting: float | FromDocument) -> None:
        self._source = setting if isinstance(setting, FromDocument) else None

    def in_events(self, descriptor: Descriptor) -> bool:
        """Say whether each event of the stream carries the angle, so that it must be awaited."""
        return self._source is not None and self._source.from_ in descriptor.keys

    def degrees(
        self,
        event: Mapping[str, Any],
        descriptor: Descriptor,
        baseline: Mapping[str, Any],
        start: RunStart,
    ) -> float | None:
        """Return the angle in degrees, None when the configuration fixes it.

        Raises FrameError when it is nowhere or no number.
        """
        if self._source is None:
            return None
        key = self._source.from_
        for place in (event, descriptor.configuration, baseline, start.metadata):
            if key in place:
                return self._converted(place[key])
        message = (
            f"the incidence angle {key!r} is not in the event, the device configuration, the "
            "baseline stream or the start document"
        )
        raise FrameError(message)

    def _converted(self, value: Any) -> float:
        source = self._source
        try:
            number = float(np.asarray(value, dtype=float).reshape(()))
        except (TypeError, ValueError):
            number = math.nan
        if source is None or not math.isfinite(number):
            message = f"the incidence angle in the documents is {value!r:.80}; expected a number"
            raise FrameError(message)
        return (number * source.scale + source.offset) * _DEGREES[source.unit]

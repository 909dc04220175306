"""The conditions of each frame (angle, energy, …), looked up in the run's own documents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gixi_bluesky.callbacks.documents.document_types import Descriptor, RunStart
from gixi_bluesky.callbacks.documents.value_sources import DocumentKey
from gixi_bluesky.errors import FrameError
from gixi_bluesky.processing.geometry.conditions import ANGLES, Conditions

__all__ = ["ConditionLookup"]


class ConditionLookup:
    """Finds values in the event, the device configuration, the baseline or the start document.

    sources: where each condition is looked up; the pipeline has the others from its settings
    """

    def __init__(self, sources: Mapping[str, DocumentKey]) -> None:
        self._sources = dict(sources)

    def in_events(self, descriptor: Descriptor) -> bool:
        """Return whether events of the stream hold one of them, so that frames wait for it."""
        return any(source.from_ in descriptor.keys for source in self._sources.values())

    def conditions(
        self,
        event: Mapping[str, Any],
        descriptor: Descriptor,
        baseline: Mapping[str, Any],
        start: RunStart,
    ) -> Conditions:
        """Return the conditions. Raises FrameError if one is missing or not a possible value."""
        places = (event, descriptor.configuration, baseline, start.metadata)
        found = {name: _found(name, key, places) for name, key in self._sources.items()}
        return Conditions(**found)


def _found(name: str, source: DocumentKey, places: tuple[Mapping[str, Any], ...]) -> float:
    key = source.from_
    for place in places:
        if key in place:
            return _converted(name, source, place[key])
    message = (
        f"{_words(name)} {key!r} is not in the event, the device configuration, the "
        "baseline stream or the start document"
    )
    raise FrameError(message)


def _converted(name: str, source: DocumentKey, raw: Any) -> float:
    try:
        number = source.value(float(np.asarray(raw, dtype=float).reshape(())))
    except (TypeError, ValueError):
        number = math.nan
    # An angle may be zero or negative; a wavelength, a distance or a monitor may not.
    if math.isfinite(number) and (number > 0 or name in ANGLES):
        return number
    message = f"{_words(name)} in the documents is {raw!r:.80}; expected a number that it can be"
    raise FrameError(message)


def _words(name: str) -> str:
    return f"the {name.rsplit('_', 1)[0].replace('_', ' ')}"

"""Runs of legacy databroker catalogues: from MongoDB, with databroker's handlers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import event_model
import numpy as np

from gixi_bluesky.callbacks.images.classic_resources import CLASSIC_SPECS
from gixi_bluesky.errors import ConfigError

__all__ = ["broker_catalogue", "stored_documents"]


def broker_catalogue(name: str) -> Any:
    """Return a client of a databroker catalogue, which is a profile of Tiled.

    Raises ConfigError where databroker is not installed or has no such catalogue.
    """
    try:
        import databroker
    except ImportError as error:
        message = "databroker is not installed; pip install 'gixi_bluesky[databroker]'"
        raise ConfigError(message) from error
    if name not in set(databroker.catalog):
        known = ", ".join(sorted(databroker.catalog)) or "none"
        message = f"databroker has no catalogue {name!r}; the profiles of Tiled are: {known}"
        raise ConfigError(message)
    catalogue = databroker.catalog[name]
    try:
        return catalogue["raw"]
    except (KeyError, ValueError):  # a catalogue of runs rejects such a short uid
        return catalogue


def stored_documents(run: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the documents of a stored run.

    Images in resources of a kind that we have no reader for are filled in, one by one, from the
    server, whose handlers know them.
    """
    filling = _Filling(run)
    for name, doc in run.documents():
        match name:
            case "event_page":
                for event in event_model.unpack_event_page(doc):
                    yield "event", filling.filled(event)
            case "event":
                yield name, filling.filled(doc)
            case _:
                filling.follow(name, doc)
                yield name, doc


class _Filling:
    def __init__(self, run: Any) -> None:
        self._run = run
        self._streams: dict[str, str] = {}
        self._foreign: set[str] = set()  # resources that we have no reader for
        self._datums: set[str] = set()  # their datum_ids
        self._events: Counter[str] = Counter()

    def follow(self, name: str, doc: Mapping[str, Any]) -> None:
        match name:
            case "descriptor":
                self._streams[doc["uid"]] = doc["name"]
            case "resource" if doc["spec"] not in CLASSIC_SPECS:
                self._foreign.add(doc["uid"])
            case "datum" if doc["resource"] in self._foreign:
                self._datums.add(doc["datum_id"])
            case "datum_page" if doc["resource"] in self._foreign:
                self._datums.update(doc["datum_id"])

    def filled(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        stream = self._streams[event["descriptor"]]
        position = self._events[stream]
        self._events[stream] += 1
        keys = [
            key
            for key, value in event["data"].items()
            if isinstance(value, str) and value in self._datums
        ]
        if not keys:
            return event
        arrays = self._run[stream]["data"]
        data = {key: np.asarray(arrays[key][position]) for key in keys}
        return {
            **event,
            "data": {**event["data"], **data},
            "filled": {**event.get("filled", {}), **dict.fromkeys(keys, True)},
        }

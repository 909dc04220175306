"""A bounded queue of documents between the caller's thread and the thread that follows them."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from gixi_bluesky.callbacks.documents.budget import held_bytes, payload_bytes
from gixi_bluesky.log import get_logger

__all__ = ["Inbox", "LeftOutImage"]

_DOCUMENT_BYTES = 4096  # what a document costs besides its arrays, about
_SMALLEST_BYTES = 4096  # smaller values are no images
_log = get_logger()


@dataclass(frozen=True, slots=True)
class LeftOutImage:
    """Replaces an image of an event for which there was no room."""

    reason: str


class Inbox:
    """A queue of documents that never lets its caller wait.

    Beyond `max_bytes` the images are left out of events, so that their frames keep a row; beyond
    twice as much, documents are refused altogether, but for the stop of a run.

    spare_bytes: what documents may hold beyond `max_bytes`, where that is more than `max_bytes`
    """

    def __init__(self, max_bytes: int, spare_bytes: int = 0) -> None:
        self._limit = max_bytes
        self._refusing = max_bytes + max(max_bytes, spare_bytes)
        self._documents: deque[tuple[str, Any, int]] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._put = self._taken = 0
        self.refused = 0
        self._overflows = False

    def __len__(self) -> int:
        """Return the number of documents that were put and not marked as done."""
        return self._put - self._taken

    @property
    def full(self) -> bool:
        """True if a caller that can wait should wait."""
        return self._held > self._limit / 2

    def put(self, name: str, doc: Any) -> None:
        """Add a document; returns at once and never raises."""
        nbytes = _cost(doc)
        with self._changed:
            if self._held + nbytes > self._limit and self._documents:
                doc, nbytes = _without_images(name, doc)
                self._report()
                if self._held + nbytes > self._refusing and name != "stop":
                    self.refused += 1
                    return
            self._documents.append((name, doc, nbytes))
            self._held += nbytes
            self._put += 1
            self._changed.notify()

    def take(self, timeout: float) -> tuple[str, Any] | None:
        """Remove and return the oldest document, None after `timeout` seconds; call `done` after.

        A document counts until then.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._documents), timeout):
                return None
            name, doc, nbytes = self._documents.popleft()
            self._held -= nbytes
            self._overflows = self._overflows and bool(self._documents)
            return name, doc

    def done(self) -> None:
        """Mark the document that was taken last as done."""
        self._taken += 1

    def _report(self) -> None:
        if not self._overflows:
            self._overflows = True
            _log.error("inbox_full", documents=len(self), held_mib=self._held >> 20)


def _cost(doc: Any) -> int:
    """Return the approximate bytes of a document; unknown objects count little."""
    try:
        return _DOCUMENT_BYTES + payload_bytes(doc) + held_bytes(doc)
    except Exception:  # an object of a foreign class: its parser reports it
        return _DOCUMENT_BYTES


def _without_images(name: str, doc: Any) -> tuple[Any, int]:
    """Return an event or event page without its images, and its remaining cost."""
    mark = LeftOutImage("more documents came than could be followed (queue.max_mib)")
    try:
        if name == "event_page":
            rows: Any = [mark] * len(doc["seq_num"])
        elif name == "event":
            rows = mark
        else:
            return doc, _cost(doc)
        data = {
            key: rows if payload_bytes({"data": {key: value}}) > _SMALLEST_BYTES else value
            for key, value in doc["data"].items()
        }
        lean = {**doc, "data": data}
    except Exception:  # not an event, despite its name
        return doc, _cost(doc)
    return lean, _cost(lean)

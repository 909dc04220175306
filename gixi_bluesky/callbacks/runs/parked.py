"""Documents that wait for a run, descriptor or resource which is not known yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from gixi_bluesky.callbacks.documents.document_types import Document
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.clock import Clock

__all__ = ["ParkedDocuments"]

_MOST_DOCUMENTS = 1000
_MOST_BYTES = 64 << 20
_log = get_logger()


class ParkedDocuments:
    """Documents in order of arrival, each with the uid that it waits for; bounded.

    lost: how many were dropped, the oldest first, to keep the bounds
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._parked: deque[tuple[str, Document, int]] = deque()
        self._bytes = 0
        self._missed_since: dict[str, float] = {}
        self.lost = 0

    def __iter__(self) -> Iterator[tuple[str, Document]]:
        """Yield the uid that is waited for, and the document."""
        return ((missing, document) for missing, document, _ in self._parked)

    @property
    def any_missed(self) -> bool:
        """True if a uid is missed."""
        return bool(self._missed_since)

    def missed(self, uid: str, seconds: float) -> bool:
        """Return whether a uid is missed for longer than this."""
        since = self._missed_since.get(uid)
        return since is not None and since <= self._clock.monotonic() - seconds

    def park(self, missing: str, document: Document, nbytes: int) -> None:
        """Keep a document until `missing` comes; `nbytes`: what it holds in memory."""
        self._parked.append((missing, document, nbytes))
        self._missed_since.setdefault(missing, self._clock.monotonic())
        self._bytes += nbytes
        while len(self._parked) > _MOST_DOCUMENTS or self._bytes > _MOST_BYTES:
            given_up, lost, freed = self._parked.popleft()
            self._bytes -= freed
            self.lost += 1
            self._forget_missed(given_up)
            _log.warning("document_lost", kind=type(lost).__name__, waited_for=given_up)

    def take(self, uid: str, kind: type = object) -> list[Document]:
        """Remove and return the documents, or those of a kind, that wait for a uid."""
        taken: list[tuple[str, Document, int]] = []
        kept: list[tuple[str, Document, int]] = []
        for entry in self._parked:
            (taken if entry[0] == uid and isinstance(entry[1], kind) else kept).append(entry)
        if taken:
            self._parked = deque(kept)
            self._bytes -= sum(nbytes for _, _, nbytes in taken)
        self._forget_missed(uid)
        return [document for _, document, _ in taken]

    def _forget_missed(self, uid: str) -> None:
        """Forget when a uid was first missed, unless other documents still wait for it."""
        if all(missing != uid for missing, _, _ in self._parked):
            self._missed_since.pop(uid, None)

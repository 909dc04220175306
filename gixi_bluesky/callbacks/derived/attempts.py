"""The choice between the stored analysis of a raw run and another one beside it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from gixi_bluesky.callbacks.runs.raw_run import RawRun
from gixi_bluesky.provenance import derived_uid

__all__ = ["Attempts", "first_attempt"]


def first_attempt(_raw: RawRun, _result_hash: str) -> int:
    """Return 1: the analysis that is made unless another one is asked for."""
    return 1


class Attempts:
    """Chooses which analysis of a raw run by the same settings is made, and records stored ones.

    complete: returns whether the derived run of a uid is complete
    again: True = the first attempt that is not complete; False = always the first
    """

    def __init__(self, complete: Callable[[str], bool], *, again: bool = False) -> None:
        self._complete = complete
        self._again = again
        self.stored: dict[str, str] = {}
        """Uids of raw runs → the newest derived runs that were complete before."""
        self.chosen: dict[str, str] = {}
        """Uids of raw runs → the derived runs that are made, or are complete already."""

    def choose(self, raw: RawRun, result_hash: str) -> int:
        """Return the number of the attempt, from 1; an interrupted one is chosen again.

        Raises what `complete` raises.
        """
        for attempt in count(1):
            uid = derived_uid(raw.uid, raw.stream, raw.data_key, result_hash, attempt)
            if attempt == 1 or self._again:
                self.chosen[raw.uid] = uid
            if not self._complete(uid):
                break
            self.stored[raw.uid] = uid
        return attempt if self._again else 1

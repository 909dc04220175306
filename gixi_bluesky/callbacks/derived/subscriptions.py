"""The analyses of this process: two with equal results would write the same runs."""

from __future__ import annotations

import threading

from gixi_bluesky.callbacks.settings import InputSettings
from gixi_bluesky.errors import ConfigError

__all__ = ["Subscription"]

_taken: set[tuple[str, str, str | None]] = set()
_lock = threading.Lock()


class Subscription:
    """The claim of one analysis on its results in this process.

    Raises ConfigError when another analysis with the same result hash, stream and data key has it.
    """

    def __init__(self, result_hash: str, settings: InputSettings) -> None:
        self._identity = (result_hash, settings.stream, settings.data_key)
        with _lock:
            if self._identity in _taken:
                message = (
                    "an analysis with the same settings is subscribed in this process already; "
                    "both would write the same derived runs. Close the other handle first"
                )
                raise ConfigError(message)
            _taken.add(self._identity)

    def close(self) -> None:
        """Release the claim."""
        with _lock:
            _taken.discard(self._identity)

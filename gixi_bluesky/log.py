"""Logging: structlog, to stderr, as lines for people or JSON for machines."""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog

__all__ = ["LogSettings", "SeldomLog", "configure_logging", "get_logger", "log_settings"]


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The settings of the log, to be applied in child processes."""

    level: str = "INFO"
    json: bool = False


_settings: LogSettings | None = None
_KIND_LENGTH, _MOST_KINDS = 200, 200
_NUMBERS = re.compile(r"\d+([.,]\d+)*")


class SeldomLog:
    """Lets one of many similar lines through in a while; they differ in numbers only.

    every_s: seconds between lines of one kind; clock: as time.monotonic
    """

    def __init__(self, every_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._kinds: OrderedDict[str, tuple[float, int]] = OrderedDict()  # since when, left out

    def due(self, text: str) -> int | None:
        """Return how many lines like this were left out before it, None to leave it out, too."""
        kind = _NUMBERS.sub("#", text)[:_KIND_LENGTH]
        now = self._clock()
        since, left_out = self._kinds.get(kind, (-math.inf, 0))
        if now - since < self._every_s:
            self._kinds[kind] = (since, left_out + 1)
            return None
        self._kinds[kind] = (now, 0)
        self._kinds.move_to_end(kind)
        while len(self._kinds) > _MOST_KINDS:
            self._kinds.popitem(last=False)
        return left_out


def configure_logging(level: str = "INFO", *, json: bool = False) -> None:
    """Send log lines of `level` and above to stderr, as JSON if asked."""
    global _settings  # one a process, as structlog's own configuration
    _settings = LogSettings(level, json)
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        # The stream of the moment: notebooks and tests replace sys.stderr.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def log_settings() -> LogSettings | None:
    """Return the log settings of this process, None if none were made."""
    return _settings


def get_logger(**context: object) -> structlog.typing.FilteringBoundLogger:
    """Return a logger that carries `context` (run uid, frame, …) on every line."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(**context)
    return logger

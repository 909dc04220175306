"""Logging: structlog, to stderr, as lines for people or JSON for machines."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

import structlog

__all__ = ["LogSettings", "configure_logging", "get_logger", "log_settings"]


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The settings of the log, to be applied in child processes."""

    level: str = "INFO"
    json: bool = False


_settings: LogSettings | None = None


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

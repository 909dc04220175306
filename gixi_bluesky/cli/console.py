"""Output of the commands: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = [
    "complain",
    "errors",
    "filling",
    "keep_stdout_for_json",
    "output",
    "print_json",
    "progress",
    "say",
    "working",
]

T = TypeVar("T")

_STDOUT, _STDERR = 1, 2
_json_lines: TextIO | None = None  # where lines of JSON go once stdout is kept for them

output = Console()
errors = Console(stderr=True)


def say(message: str) -> None:
    """Print a message to stderr."""
    errors.print(message, markup=False, highlight=False, soft_wrap=True)


def progress(items: Iterable[T], total: int, description: str = "images") -> Iterator[T]:
    """Yield the items, with a bar on stderr when that is a terminal and there are several."""
    with _bar(hidden=total < 2) as bar:
        yield from bar.track(items, total=total, description=description)


@contextmanager
def filling(total: int, description: str) -> Iterator[Callable[[int], None]]:
    """Yield what sets how many of `total` are done, shown as a bar on a terminal's stderr."""
    with _bar(hidden=False) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.update(task, completed=done)


def working(message: str) -> AbstractContextManager[object]:
    """Show on a terminal's stderr that something goes on whose length is not known."""
    return errors.status(message) if errors.is_terminal else nullcontext()


def _bar(*, hidden: bool) -> Progress:
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    hidden = hidden or not errors.is_terminal
    return Progress(*columns, console=errors, transient=True, disable=hidden)


def complain(message: str) -> None:
    """Print an error to stderr."""
    errors.print("[bold red]error:[/]", end=" ")
    errors.print(message, markup=False, highlight=False, soft_wrap=True)


def keep_stdout_for_json(wanted: bool) -> bool:
    """Send to stderr what anything but `print_json` writes to stdout, C libraries included.

    The callback of `--json`: one print of a library would break the lines of a reader.
    """
    global _json_lines
    _json_lines = None
    if not wanted:
        return wanted
    stream = sys.stdout
    stream.flush()
    if _descriptor(stream) == _STDOUT:
        stream = os.fdopen(os.dup(_STDOUT), "w", encoding="utf-8")
        os.dup2(_STDERR, _STDOUT)
    _json_lines = stream
    sys.stdout = sys.stderr
    return wanted


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):  # a stream in memory
        return None


def print_json(value: Any) -> None:
    """Write one line of JSON to stdout and flush it."""
    stream = _json_lines or sys.stdout
    stream.write(json.dumps(value, allow_nan=False) + "\n")
    stream.flush()

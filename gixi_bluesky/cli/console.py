"""Output of the commands: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console

__all__ = ["complain", "errors", "output", "print_json", "progress", "say"]

T = TypeVar("T")

output = Console()
errors = Console(stderr=True)


def say(message: str) -> None:
    """Print a message to stderr."""
    errors.print(message, markup=False, highlight=False, soft_wrap=True)


def progress(items: Iterable[T], total: int) -> Iterator[T]:
    """Yield the items, with a bar on stderr when that is a terminal and there are several."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    hidden = total < 2 or not errors.is_terminal
    with Progress(*columns, console=errors, transient=True, disable=hidden) as bar:
        yield from bar.track(items, total=total, description="images")


def complain(message: str) -> None:
    """Print an error to stderr."""
    errors.print("[bold red]error:[/]", end=" ")
    errors.print(message, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Write one line of JSON to stdout and flush it."""
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
    sys.stdout.flush()

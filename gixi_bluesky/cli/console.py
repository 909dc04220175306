"""Where the commands write: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

__all__ = ["complain", "errors", "output", "print_json", "say"]

output = Console()
errors = Console(stderr=True)


def say(message: str) -> None:
    """Tell the user something that is not a result."""
    errors.print(message, markup=False, highlight=False, soft_wrap=True)


def complain(message: str) -> None:
    """Show an error."""
    errors.print("[bold red]error:[/]", end=" ")
    errors.print(message, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Write one line of JSON to stdout and let a reader have it at once."""
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
    sys.stdout.flush()

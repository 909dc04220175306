"""How long the campaigns of `make soak` are, where they begin, and where they were stopped."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest


def soak_steps(name: str, wanted: int, each: int = 1) -> Iterator[tuple[int, Random]]:
    """Yield how many mishaps the next step has, and its chances, until there were `wanted`.

    With GIXI_SOAK_STATE=FILE a campaign that was stopped goes on after its last whole step.
    """
    seed = _number("SEED", 0)
    while (done := _done(name)) < wanted:
        now = min(each, wanted - done)
        yield now, Random(f"{name} {seed} {done}")
        _keep(name, done + now)
    _keep(name, 0)  # the next campaign begins anew


def soak_kills() -> int:
    """Return how many kills a campaign has: GIXI_SOAK_KILLS, a hundred unless it is set."""
    return _number("KILLS", 100)


def soak_mishaps() -> int:
    """Return how often the disk of a campaign fails: GIXI_SOAK_MISHAPS, thirty unless it is set."""
    return _number("MISHAPS", 30)


def soak_seeds() -> range:
    """Return the seeds of GIXI_SOAK_ROUNDS rounds (five unless it is set), from GIXI_SOAK_SEED."""
    first = _number("SEED", 0)
    return range(first, first + _number("ROUNDS", 5))


@contextlib.contextmanager
def soak_round(name: str, seed: int) -> Iterator[None]:
    """Skip a round that a campaign had done before it was stopped."""
    if _done(f"{name} {seed}"):
        pytest.skip("done before the campaign was stopped")
    yield
    _keep(f"{name} {seed}", 1)
    if all(_done(f"{name} {one}") for one in soak_seeds()):
        for one in soak_seeds():
            _keep(f"{name} {one}", 0)


def _state() -> Path | None:
    name = os.environ.get("GIXI_SOAK_STATE")
    return Path(name) if name else None


_here: dict[str, int] = {}  # without a file, for this process


def _all_done() -> dict[str, int]:
    state = _state()
    if state is None:
        return _here
    return json.loads(state.read_text()) if state.is_file() else {}


def _done(name: str) -> int:
    return int(_all_done().get(name, 0))


def _keep(name: str, done: int) -> None:
    reported = _all_done()
    reported.pop(name, None)
    if done:
        reported[name] = done
    if (state := _state()) is not None:
        if reported:
            state.write_text(json.dumps(reported))
        else:
            state.unlink(missing_ok=True)


def _number(name: str, otherwise: int) -> int:
    return int(os.environ.get(f"GIXI_SOAK_{name}") or otherwise)

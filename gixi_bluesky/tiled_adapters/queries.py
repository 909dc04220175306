"""Find derived runs by raw run, phase or peak; right on a stock Tiled server, runs newest first.

The server narrows the choice by the summary in the stop document and, while a run goes on, in
`gixi_live`; every run is checked again here, because a server ignores queries it does not know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tiled.client.container import Container
from tiled.queries import Comparison, Eq, Key, KeyPresent

from gixi_bluesky.tiled_adapters.schema import PURPOSE

__all__ = ["Q_BIN", "q_bin", "runs_for", "unfinished", "with_peak", "with_phase"]

Q_BIN = 0.01
_SUMMARIES = ("stop.gixi", "gixi_live")


def runs_for(client: Any, raw_uid: str) -> list[Any]:
    """Return the derived runs of one raw run, whatever their configuration."""
    return _search(
        client, [[Eq("start.gixi.raw_uid", raw_uid)]], lambda run: run.raw_uid == raw_uid
    )


def with_phase(client: Any, name: str, min_probability: float = 0.5) -> list[Any]:
    """Return the runs in which a phase, by slug or name, reached `min_probability`."""
    slug = slug_of(name)
    alternatives = [
        [Comparison("ge", f"{summary}.phases.{slug}.max_probability", min_probability)]
        for summary in _SUMMARIES
    ]

    def matches(run: Any) -> bool:
        phase = _summary(run).get("phases", {}).get(slug, {})
        return _number(phase.get("max_probability")) >= min_probability

    return _search(client, alternatives, matches)


def with_peak(client: Any, q: float, tolerance: float = 0.01) -> list[Any]:
    """Return the runs with a peak within `tolerance` of |q| = `q` (both 1/angstrom).

    Exact while a run lists all its |q| in `peak_q`; beyond that its bins of 0.01 1/angstrom decide.
    """
    first, last = math.floor((q - tolerance) / Q_BIN), math.floor((q + tolerance) / Q_BIN)
    bins = [q_bin(number * Q_BIN + Q_BIN / 2) for number in range(max(first, 0), last + 1)]
    alternatives = [
        [KeyPresent(f"{summary}.q_bins.{name}")] for summary in _SUMMARIES for name in bins
    ]

    def matches(run: Any) -> bool:
        return any(abs(value - q) <= tolerance for value in _summary(run).get("peak_q", ()))

    return _search(client, alternatives, matches)


def unfinished(client: Any) -> list[Any]:
    """Return the derived runs without a stop document: growing, or left behind by a crash."""
    return _search(
        client,
        [[Key("start.purpose") == PURPOSE, KeyPresent("stop.exit_status", exists=False)]],
        lambda run: not run.metadata.get("stop"),
    )


def q_bin(q: float) -> str:
    """Return the key of the 0.01 1/angstrom wide bin that holds |q|, such as b0106."""
    return f"b{math.floor(round(q / Q_BIN, 9)):04d}"


def slug_of(name: str) -> str:
    """Return a phase's name as a key of the summary: dots would end a path in Tiled."""
    return "".join(char if char.isalnum() or char in "-_" else "-" for char in name)


def _search(
    client: Any, alternatives: Iterable[Iterable[Any]], matches: Callable[[Any], bool]
) -> list[Any]:
    found: dict[str, Any] = {}
    for queries in alternatives:
        results = client
        for query in queries:
            # Not client.search: a catalogue of Bluesky runs would look in start documents only.
            results = Container.search(results, query)
        for uid, run in results.items():
            if uid not in found and _is_derived(run) and matches(run):
                found[uid] = run
    return sorted(found.values(), key=lambda run: -run.metadata["start"]["time"])


def _is_derived(run: Any) -> bool:
    return "gixi" in run.metadata.get("start", {})


def _summary(run: Any) -> Mapping[str, Any]:
    stop = run.metadata.get("stop") or {}
    return stop.get("gixi") or run.metadata.get("gixi_live") or {}


def _number(value: Any) -> float:
    return float(value) if value is not None else -math.inf

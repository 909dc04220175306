"""Find derived runs by raw run, phase or peak; right on a stock Tiled server, runs newest first.

The server narrows the choice by the summary in the stop document and, while a run goes on, in
`gixi_live`; every run is checked again here, because a server ignores queries it does not know.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tiled.client.constructors import from_context
from tiled.client.container import Container
from tiled.client.utils import ClientError
from tiled.queries import Comparison, Eq, Key, KeyPresent, Like

from gixi_bluesky.errors import StoreError
from gixi_bluesky.processing.structures.cif_files import LONGEST_SLUG
from gixi_bluesky.tiled_adapters.client.fast_queries import (
    PeakNear,
    PhaseReached,
    bins_between,
    has_fast_queries,
)
from gixi_bluesky.tiled_adapters.run_names import LEAST_PREFIX, one_with_prefix, sample_name
from gixi_bluesky.tiled_adapters.schema import PURPOSE

if TYPE_CHECKING:
    import xarray

__all__ = [
    "analyses_of",
    "compare",
    "differences",
    "full_uid",
    "newest",
    "runs_for",
    "slug_of",
    "unfinished",
    "with_onset",
    "with_peak",
    "with_phase",
]

_BAD_REQUEST = 400
_SUMMARIES = ("stop.gixi", "gixi_live")
_PLACES = {"input", "queue", "output", "tiled"}  # settings that decide no number


def runs_for(client: Any, raw_uid: str) -> list[Any]:
    """Return the derived runs of one raw run, whatever their configuration."""
    return _search(
        client, [[Eq("start.gixi.raw_uid", raw_uid)]], lambda run: run.raw_uid == raw_uid
    )


def analyses_of(run: Any, catalogue: str = "gixi") -> list[Any]:
    """Return the derived runs of a run, raw or derived, as `run.raw` leads back.

    run: a client of the run; catalogue: path of the derived runs on its server
    Raises StoreError when the server has no such catalogue.
    """
    try:
        derived = from_context(run.context, node_path_parts=catalogue.strip("/").split("/"))
    except (KeyError, ClientError) as error:
        message = f"found no catalogue {catalogue!r} on this server; see tiled.derived"
        raise StoreError(message) from error
    return runs_for(derived, run.path_parts[-1])  # the key of a run is its uid


def full_uid(client: Any, prefix: str) -> str | None:
    """Return the only uid of a run, derived or raw, that begins with `prefix`, None if none does.

    client: a catalogue of runs
    Raises StoreError when several do.
    """
    if len(prefix) < LEAST_PREFIX:
        return None
    # Not client.search, which would look in other places for other kinds of catalogues.
    found = Container.search(client, Like("start.uid", f"{prefix}%"))
    return one_with_prefix(found, prefix)


def with_phase(client: Any, name: str, min_probability: float = 0.5) -> list[Any]:
    """Return the runs in which a phase, by slug or name, reached `min_probability`.

    Raises ValueError for what is no number.
    """
    if not math.isfinite(min_probability):
        message = f"got min_probability = {min_probability}; expected a finite number"
        raise ValueError(message)
    slug = slug_of(name)
    alternatives = [
        [Comparison("ge", f"{summary}.phases.{slug}.max_probability", min_probability)]
        for summary in _SUMMARIES
    ]

    def matches(run: Any) -> bool:
        phase = _summary(run).get("phases", {}).get(slug, {})
        return _number(phase.get("max_probability")) >= min_probability

    return _search_fast(client, PhaseReached(slug, min_probability), alternatives, matches)


def with_onset(
    client: Any,
    phase: str,
    before: float | None = None,
    after: float | None = None,
) -> list[Any]:
    """Return the runs in which a phase, by slug or name, begins between two times.

    before, after: seconds since 1970, as `onset_time`; None = no limit on that side. Runs in
    which the onset has no time are left out.
    """
    slug = slug_of(phase)
    alternatives = [[KeyPresent(f"{summary}.phases.{slug}.onset_time")] for summary in _SUMMARIES]

    def matches(run: Any) -> bool:
        onset = _summary(run).get("phases", {}).get(slug, {}).get("onset_time")
        if onset is None:
            return False
        return (before is None or onset <= before) and (after is None or onset >= after)

    return _search(client, alternatives, matches)


def with_peak(client: Any, q: float, tolerance: float = 0.01) -> list[Any]:
    """Return the runs with a peak within `tolerance` of |q| = `q` (both 1/angstrom).

    Decided by the |q| that a run lists in `peak_q` (at most 200, clustered). Raises ValueError for
    what is no range of numbers.
    """
    if not (math.isfinite(q) and math.isfinite(tolerance) and tolerance >= 0):
        message = f"got q = {q} and tolerance = {tolerance}; expected finite numbers"
        raise ValueError(message)
    bins = [f".{name}" for name in bins_between(q - tolerance, q + tolerance)]
    alternatives = [
        [KeyPresent(f"{summary}.q_bins{name}")] for summary in _SUMMARIES for name in bins or [""]
    ]

    def matches(run: Any) -> bool:
        return any(abs(value - q) <= tolerance for value in _summary(run).get("peak_q", ()))

    return _search_fast(client, PeakNear(q - tolerance, q + tolerance), alternatives, matches)


def newest(client: Any, number: int) -> list[Any]:
    """Return at most `number` derived runs."""
    runs = Container.search(client, Key("start.purpose") == PURPOSE)
    found = [run for run in runs.values().tail(number) if _is_derived(run)]
    return sorted(found, key=lambda run: -run.metadata["start"]["time"])


def unfinished(client: Any) -> list[Any]:
    """Return the derived runs without a stop document: growing, or left behind by a crash."""
    return _search(
        client,
        [[Key("start.purpose") == PURPOSE, KeyPresent("stop.exit_status", exists=False)]],
        lambda run: not run.metadata.get("stop"),
    )


def compare(
    runs: Sequence[Any], cut: str, frames: slice | Sequence[int] | None = None
) -> xarray.Dataset:
    """Return one cut of several runs side by side: `intensity` and `error` over run and bin.

    Each run counts with the mean of its frames, or of those that `frames` chooses (positions).
    Curves with other bins than those of the first run are interpolated onto these. The
    coordinates `uid` and `sample` say which run is which. Raises KeyError for a run without the
    cut, ValueError for no runs and for cuts along other coordinates.
    """
    import xarray

    series = [run.cut(cut) for run in runs]
    if not series or len({one.along for one in series}) > 1:
        message = f"got {[one.along for one in series]}; expected one or more cuts along the same"
        raise ValueError(message)
    means = [one.mean(frames) for one in series]
    along, axis = series[0].along, series[0].axis
    intensity, error = (
        np.stack(
            [
                np.interp(axis, one.axis, mean[k], left=np.nan, right=np.nan)
                for one, mean in zip(series, means, strict=True)
            ]
        )
        for k in range(2)
    )
    starts = [run.metadata["start"] for run in runs]
    return xarray.Dataset(
        {"intensity": (("run", along), intensity), "error": (("run", along), error)},
        coords={
            along: (along, axis, {"units": series[0].unit}),
            "uid": ("run", [start["uid"] for start in starts]),
            "sample": ("run", [sample_name(start) for start in starts]),
        },
        attrs={"name": cut},
    )


def differences(runs: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Return by uid the settings, weights, structures and versions in which derived runs differ.

    The names are dotted, such as `detector.score_threshold`; empty where nothing differs. Analyses
    that were repeated on purpose differ in `attempt`.
    """
    settings_of = {run.metadata["start"]["uid"]: _deciding(run) for run in runs}
    names = sorted({name for settings in settings_of.values() for name in settings})
    differing = [
        name for name in names if len({repr(one.get(name)) for one in settings_of.values()}) > 1
    ]
    return {
        uid: {name: settings.get(name) for name in differing}
        for uid, settings in settings_of.items()
    }


def _deciding(run: Any) -> dict[str, Any]:
    provenance: Mapping[str, Any] = run.provenance
    config = {
        section: settings
        for section, settings in provenance.get("config", {}).items()
        if section not in _PLACES
    }
    rest = {key: value for key, value in provenance.items() if key not in {"config", "geometry"}}
    attempt = run.metadata["start"]["gixi"].get("attempt", 1)
    return _flat({**config, **rest, "attempt": attempt})


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def slug_of(name: str) -> str:
    """Return a phase's name as a key of the summary: dots would end a path in Tiled."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:LONGEST_SLUG] or "phase"


def _search_fast(
    client: Any,
    query: Any,
    alternatives: Iterable[Iterable[Any]],
    matches: Callable[[Any], bool],
) -> list[Any]:
    if has_fast_queries(client):
        try:
            return _search(client, [[query]], matches)
        except ClientError as error:
            # A stock server in this process knows the name but cannot answer.
            if error.response.status_code != _BAD_REQUEST:
                raise
    return _search(client, alternatives, matches)


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

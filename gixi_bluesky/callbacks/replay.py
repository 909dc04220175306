"""Replay of stored runs through the analysis, document by document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from tiled.client.container import Container
from tiled.client.utils import ClientError
from tiled.queries import Key

from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.callbacks.databroker_runs import stored_documents
from gixi_bluesky.callbacks.derived.attempts import Attempts
from gixi_bluesky.callbacks.derived.stores import store_builder
from gixi_bluesky.callbacks.settings import AnalysisConfig
from gixi_bluesky.errors import StoreError
from gixi_bluesky.tiled_adapters.client.queries import full_uid

__all__ = ["Replayed", "found_runs", "replay"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """The outcome of one stored run; without `derived_uid`, `reason` says why there is none.

    stored_before: uid of the derived run that was complete before; empty = none
    """

    raw_uid: str
    derived_uid: str | None
    reason: str = ""
    stored_before: str = ""


def found_runs(catalogue: Any, uids: tuple[str, ...], search: Mapping[str, Any]) -> list[Any]:
    """Return the stored runs of these uids, and those whose start document has these values.

    uids: whole or their beginnings
    Raises StoreError for a uid that is not there, or is the beginning of several.
    """
    runs = {}
    for named in uids:
        uid = named
        try:
            if uid not in catalogue:
                uid = full_uid(catalogue, named) or named
            runs[uid] = catalogue[uid]
        except KeyError as error:
            message = f"there is no run {uid} in the catalogue; see tiled.raw, and what the key may"
            raise StoreError(message) from error
    if search:
        results = catalogue
        for key, value in search.items():
            # Not catalogue.search, which would look in other places for other kinds of catalogues.
            results = Container.search(results, Key(f"start.{key}") == value)
        runs |= dict(results.items())
    return list(runs.values())


def replay(
    runs: list[Any],
    config: AnalysisConfig,
    derived: Any,
    timeout: float | None = None,
    *,
    again: bool = False,
) -> Iterator[Replayed]:
    """Analyse stored runs with a configuration, and yield each when its derived run is stored.

    runs: clients of raw runs; what `config.input.select` says does not matter to them
    derived: a client of the catalogue where derived runs go; None = result files alone
    again: analyse those that are complete with the same settings once more, beside what is stored
    Raises what a wrong set-up raises, and TimeoutError when a run takes longer than `timeout` s.
    """
    everything = config.input.model_copy(update={"select": {}})
    config = config.model_copy(update={"input": everything})
    if derived is None:
        tiled = config.tiled.model_copy(update={"uri": None})
        config = config.model_copy(update={"tiled": tiled})
        directory = Path(config.output.directory)
        attempts = Attempts(lambda uid: (directory / f"{uid}.nxs").exists(), again=again)
    else:
        attempts = Attempts(partial(is_complete, derived), again=again)
    store = store_builder(config, derived)
    with Analysis(config, store=store, attempts=attempts) as analysis:
        for run in runs:
            yield _replay(run, analysis, attempts, timeout)


def is_complete(catalogue: Any, uid: str) -> bool:
    """Return whether the catalogue has a derived run with its stop document."""
    try:
        return bool(catalogue[uid].metadata.get("stop"))
    except KeyError:
        return False


def _replay(run: Any, analysis: Analysis, attempts: Attempts, timeout: float | None) -> Replayed:
    uid = run.metadata["start"]["uid"]
    if not run.metadata.get("stop"):
        return Replayed(uid, None, "it has not ended")
    try:
        for name, doc in stored_documents(run):
            analysis.feed(name, doc)
    except (ClientError, httpx.HTTPError) as error:
        message = (
            f"the server does not give the documents of run {uid}: {error}; it needs the exporter "
            "of bluesky-tiled-plugins in media_types, as `gixi-bluesky serve` has it"
        )
        raise StoreError(message) from error
    analysis.drain(timeout)
    if uid not in attempts.chosen:
        reason = analysis.status()["last_error"] or "it has no images that the settings choose"
        return Replayed(uid, None, reason)
    return Replayed(uid, attempts.chosen[uid], stored_before=attempts.stored.get(uid, ""))

"""Replay of stored runs through the analysis, document by document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from tiled.client.container import Container
from tiled.client.utils import ClientError
from tiled.queries import Key

from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.callbacks.databroker_runs import stored_documents
from gixi_bluesky.callbacks.derived.stores import RunStore, store_builder
from gixi_bluesky.callbacks.settings import AnalysisConfig
from gixi_bluesky.errors import StoreError
from gixi_bluesky.tiled_adapters.client.queries import full_uid

__all__ = ["Replayed", "found_runs", "replay"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """The outcome of one stored run; without `derived_uid`, `reason` says why there is none."""

    raw_uid: str
    derived_uid: str | None
    reason: str = ""


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
    runs: list[Any], config: AnalysisConfig, derived: Any, timeout: float | None = None
) -> Iterator[Replayed]:
    """Analyse stored runs with a configuration, and yield each when its derived run is stored.

    runs: clients of raw runs; what `config.input.select` says does not matter to them
    derived: a client of the catalogue where derived runs go
    Raises what a wrong set-up raises, and TimeoutError when a run takes longer than `timeout` s.
    """
    opened: list[RunStore] = []
    build = store_builder(config, derived)

    def new_store() -> RunStore:
        opened.append(build())
        return opened[-1]

    everything = config.input.model_copy(update={"select": {}})
    config = config.model_copy(update={"input": everything})
    with Analysis(config, store=new_store) as analysis:
        for run in runs:
            opened.clear()
            yield _replay(run, analysis, opened, timeout)


def _replay(
    run: Any, analysis: Analysis, opened: list[RunStore], timeout: float | None
) -> Replayed:
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
    if not opened:
        reason = analysis.status()["last_error"] or "it has no images that the settings choose"
        return Replayed(uid, None, reason)
    return Replayed(uid, opened[0].uid)

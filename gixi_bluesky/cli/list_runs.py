"""`list`: the derived runs of a server or of a results directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gixi_bluesky.cli.console import output, print_json, say
from gixi_bluesky.cli.options import JsonLines, ResultsDirectory, ServerUri, StoreConfigFile
from gixi_bluesky.plurals import counted

__all__ = ["list_runs"]


def list_runs(
    directory: ResultsDirectory = Path("results"),
    tiled: ServerUri = None,
    config: StoreConfigFile = None,
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, help="Largest number of runs to list.")
    ] = 50,
    json: JsonLines = False,
) -> None:
    """List derived runs, newest first: sample, time, frames, phases and state."""
    from gixi_bluesky.config import load_config
    from gixi_bluesky.tiled_adapters.settings import TiledSettings

    settings = TiledSettings()
    if config is not None:
        loaded = load_config(config)
        settings, directory = loaded.tiled, loaded.output.directory
    if tiled is not None:
        settings = settings.model_copy(update={"uri": tiled})
    runs = _in_directory(directory) if settings.uri is None else _on_server(settings, number)
    rows = sorted((_row(*run) for run in runs), key=lambda row: -row["time"])[:number]
    if json:
        for row in rows:
            print_json(row)
        return
    if not rows:
        where = settings.uri or directory
        say(f"no derived run in {where}; `gixi-bluesky process` and `subscribe` make some")
    for row in rows:
        when = datetime.fromtimestamp(row["time"]).astimezone().isoformat(" ", "minutes")[:16]
        phases = ", ".join(f"{name} {p:.2f}" for name, p in row["phases"].items()) or "-"
        output.print(
            f"{row['uid'][:8]}  {when}  {_name(row)}  {counted(row['n_frames'], 'frame')}  "
            f"{row['state']}  {phases}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _name(row: Mapping[str, Any]) -> str:
    scan = "" if row["scan_id"] is None else f"scan {row['scan_id']}"
    attempt = f"attempt {row['attempt']}" if row["attempt"] > 1 else ""
    return ", ".join(word for word in (row["sample"], scan, attempt) if word) or "-"


_Run = tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]


def _on_server(settings: Any, number: int) -> Iterator[_Run]:
    """Yield start, stop and live summary of the newest runs of a server."""
    from gixi_bluesky.tiled_adapters.client.queries import newest
    from gixi_bluesky.tiled_adapters.connection import derived_catalogue

    for run in newest(derived_catalogue(settings), number):
        metadata = run.metadata
        yield metadata["start"], metadata.get("stop") or {}, metadata.get("gixi_live") or {}


def _in_directory(directory: Path) -> Iterator[_Run]:
    """Yield start and stop of the finished runs of a results directory."""
    from gixi_bluesky.errors import GixiError
    from gixi_bluesky.tiled_adapters.files.result_reading import run_documents

    for path in sorted(directory.glob("*.nxs")):
        try:
            start, stop = run_documents(path)
        except (OSError, KeyError, ValueError, GixiError) as error:
            say(f"{path.name} is left out: {error}")
            continue
        yield start, stop, {}


def _row(
    start: Mapping[str, Any], stop: Mapping[str, Any], live: Mapping[str, Any]
) -> dict[str, Any]:
    from gixi_bluesky.tiled_adapters.run_names import sample_name

    summary = stop.get("gixi") or live
    phases = summary.get("phases", {}).values()
    found = {
        str(phase["name"]): float(phase["max_probability"])
        for phase in phases
        if (phase.get("max_probability") or 0) >= 0.5
    }
    return {
        "uid": str(start.get("uid", "")),
        "raw_uid": str(start.get("gixi", {}).get("raw_uid", "")),
        "sample": sample_name(start),
        "scan_id": start.get("gixi", {}).get("raw_scan_id"),
        "time": float(start.get("time", 0.0)),
        "n_frames": int(summary.get("n_frames", 0)),
        "phases": dict(sorted(found.items(), key=lambda item: -item[1])),
        "attempt": int(start.get("gixi", {}).get("attempt", 1)),
        "state": str(summary.get("completeness", "complete")) if stop else "no stop",
    }

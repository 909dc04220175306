"""`reprocess`: analyses stored runs again with another configuration."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gixi_bluesky.cli.console import output, print_json, progress, say
from gixi_bluesky.cli.options import Again, ConfigFile, JsonLines, stored_before
from gixi_bluesky.plurals import counted

if TYPE_CHECKING:
    from gixi_bluesky.callbacks.replay import Replayed

__all__ = ["reprocess"]

_BROKER = "databroker:"


def reprocess(
    source: Annotated[
        str,
        typer.Argument(
            metavar="TILED_URI|databroker:NAME",
            help="Server, the key is in TILED_API_KEY; or a catalogue of databroker.",
        ),
    ],
    config: ConfigFile,
    raw_uids: Annotated[
        list[str] | None, typer.Argument(metavar="RAW_UID...", help="Runs to analyse again.")
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Runs whose start document has this value; all must hold."
        ),
    ] = None,
    again: Again = False,
    json: JsonLines = False,
) -> None:
    """Analyse stored runs again; the new derived runs stand beside the old ones.

    A run that was analysed with the same settings before is reported and left as it is, unless
    --again is given. Those of a databroker catalogue go to `tiled.uri` of the configuration. The
    exit status is 1 when one of the runs gave no derived run.
    """
    from gixi_bluesky.callbacks.databroker_runs import broker_catalogue
    from gixi_bluesky.callbacks.replay import found_runs, replay
    from gixi_bluesky.config import load_config
    from gixi_bluesky.tiled_adapters.connection import catalogue_at, connect

    if not (raw_uids or search):
        raise typer.BadParameter("give the uids of raw runs, or --search KEY=VALUE")
    settings = load_config(config)
    broker = source.removeprefix(_BROKER) if source.startswith(_BROKER) else None
    if broker is None:
        tiled = settings.tiled.model_copy(update={"uri": source})
        settings = settings.model_copy(update={"tiled": tiled})
    root = connect(settings.tiled)
    all_done = True
    with contextlib.closing(root.context):
        derived = catalogue_at(root, settings.tiled.derived)
        raw = catalogue_at(root, settings.tiled.raw) if broker is None else broker_catalogue(broker)
        runs = found_runs(raw, tuple(raw_uids or ()), _terms(search or []))
        say(f"{counted(len(runs), 'run')} to analyse")
        replays = replay(runs, settings, derived, again=again)
        for replayed in progress(replays, len(runs), "runs"):
            all_done &= replayed.derived_uid is not None
            if replayed.stored_before and not again:
                place = f"--tiled {settings.tiled.uri}"
                say(stored_before(replayed.raw_uid, replayed.stored_before, place))
            report = _report(derived, replayed)
            if json:
                print_json(report)
            else:
                _show(report)
    if not all_done:
        raise typer.Exit(1)


def _terms(search: list[str]) -> dict[str, Any]:
    """Return the terms of KEY=VALUE options; values are parsed as YAML, so that 7 is a number."""
    import yaml

    terms = {}
    for term in search:
        key, sign, value = term.partition("=")
        if not (key and sign):
            raise typer.BadParameter(f"got {term!r}; expected KEY=VALUE such as plan_name=count")
        terms[key] = yaml.safe_load(value)
    return terms


def _report(derived: Any, replayed: Replayed) -> dict[str, Any]:
    """Return the derived run, its phases, and how it differs from the others of this raw run."""
    from gixi_bluesky.tiled_adapters.client.queries import differences, runs_for

    report: dict[str, Any] = {
        "raw_uid": replayed.raw_uid,
        "derived_uid": replayed.derived_uid,
        "reason": replayed.reason,
        "stored_before": replayed.stored_before or None,
    }
    if replayed.derived_uid is None:
        return report
    runs = runs_for(derived, replayed.raw_uid)
    report["differs"] = differences(runs)
    summary = next(run.summary for run in runs if run.start["uid"] == replayed.derived_uid)
    return {**report, **{key: summary.get(key) for key in ("n_frames", "n_peaks", "phases")}}


def _show(report: dict[str, Any]) -> None:
    if report["derived_uid"] is None:
        say(f"{report['raw_uid']}: {report['reason']}")
        return
    phases = ", ".join(
        f"{phase['name']} {phase['max_probability']:.2f}" for phase in report["phases"].values()
    )
    output.print(
        f"{report['raw_uid']} → {report['derived_uid']}: {counted(report['n_frames'], 'frame')}, "
        f"{counted(report['n_peaks'], 'peak')}, {phases or 'no phases'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    for uid, settings in report["differs"].items():
        for name, value in settings.items():
            output.print(f"  {uid[:8]} {name}: {value}", markup=False, highlight=False)

"""`reproduce`: the analysis of a bundle once more, compared with what the bundle holds."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gixi_bluesky.cli.console import output, print_json, say
from gixi_bluesky.cli.options import JsonLines

if TYPE_CHECKING:
    from gixi_bluesky.config import Config

__all__ = ["reproduce"]

_TEXT = {"equal": "equal", "rounding": "differs by rounding", "differs": "differs"}


def reproduce(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Made by `publish`.")],
    raw: Annotated[
        str,
        typer.Option(
            metavar="URI|DIR",
            help="Tiled server with the raw run, key in TILED_API_KEY; or a folder of the images.",
        ),
    ],
    catalogue: Annotated[
        str, typer.Option(metavar="PATH", help="Catalogue of raw runs on the server.")
    ] = "raw",
    json: JsonLines = False,
) -> None:
    """Analyse the raw run of a bundle again in this environment and compare, table by table.

    The files of the bundle are checked first. The exit status is 1 when something differs by more
    than rounding.
    """
    from gixi_bluesky.config.recipes import bundled_config
    from gixi_bluesky.tiled_adapters.bundles.comparison import compare_runs
    from gixi_bluesky.tiled_adapters.client.readable_runs import FileRun

    config, provenance = bundled_config(bundle)
    before = FileRun(bundle, _uid_of(bundle))
    with tempfile.TemporaryDirectory(prefix="gixi-reproduce-") as folder:
        target = config.output.model_copy(
            update={"directory": Path(folder) / "results", **_kept(before)}
        )
        again = config.model_copy(update={"output": target})
        uid = _analysed(before.start, again, raw, catalogue)
        after = FileRun(target.directory, uid)
        _say_versions(provenance, after.start["gixi"]["provenance"])
        compared = compare_runs(before, after)
    for one in compared:
        if json:
            print_json({"name": one.name, "verdict": one.verdict, "detail": one.detail})
        else:
            detail = f": {one.detail}" if one.detail else ""
            output.print(f"{one.name}: {_TEXT[one.verdict]}{detail}", markup=False, soft_wrap=True)
    if any(one.verdict == "differs" for one in compared):
        raise typer.Exit(1)


def _uid_of(bundle: Path) -> str:
    from gixi_bluesky.errors import StoreError

    files = sorted(bundle.glob("*.nxs"))
    if len(files) != 1:
        message = f"{bundle} holds {len(files)} result files; expected one, <uid>.nxs"
        raise StoreError(message)
    return files[0].stem


def _kept(run: Any) -> dict[str, str]:
    """Return how often images are stored, as in the run."""
    step = int(run.start["gixi"].get("image_step", 1))
    return {"images": f"every_{step}" if step and run.n_images else "none"}


def _analysed(start: Any, config: Config, raw: str, catalogue: str) -> str:
    """Analyse the raw run again and return the uid of its derived run."""
    from gixi_bluesky.errors import StoreError

    if Path(raw).is_dir():
        _require_no_documents(config)
        from gixi_bluesky.cli.watch import watched

        for _ in watched(config, Path(raw), stop_after=2.0):
            pass
    else:
        _replay(start, config, raw, catalogue)
    found = sorted(config.output.directory.glob("*.nxs"))
    if len(found) != 1:
        message = f"the analysis of {raw} gave {len(found)} runs; expected one, see the log"
        raise StoreError(message)
    return found[0].stem


def _require_no_documents(config: Config) -> None:
    """Raise ConfigError if the geometry is looked up in documents, which a folder has not."""
    from gixi_bluesky.callbacks.documents.value_sources import FromDocument
    from gixi_bluesky.errors import ConfigError

    angle = config.geometry.incidence_angle_deg
    keys = [str(angle)] if isinstance(angle, FromDocument) else []
    keys += config.geometry.changes_per_frame
    if keys:
        message = (
            f"the run took {', '.join(keys)} from its documents, which a folder of images does "
            "not have; give --raw the address of the Tiled server with the raw run"
        )
        raise ConfigError(message)


def _replay(start: Any, config: Config, raw: str, catalogue: str) -> None:
    from gixi_bluesky.callbacks.replay import found_runs, replay
    from gixi_bluesky.errors import StoreError
    from gixi_bluesky.tiled_adapters.settings import TiledSettings

    gixi = start["gixi"]
    chosen = {"stream": gixi["raw_stream"], "data_key": gixi["raw_data_key"]}
    config = config.model_copy(update={"input": config.input.model_copy(update=chosen)})
    with _catalogue(TiledSettings(uri=raw, raw=catalogue)) as client:
        runs = found_runs(client, (gixi["raw_uid"],), {})
        for replayed in replay(runs, config, None):
            if replayed.derived_uid is None:
                raise StoreError(f"the raw run cannot be analysed: {replayed.reason}")


@contextlib.contextmanager
def _catalogue(settings: Any) -> Iterator[Any]:
    from gixi_bluesky.tiled_adapters.connection import catalogue_at, connect

    root = connect(settings)
    with contextlib.closing(root.context):
        yield catalogue_at(root, settings.raw)


def _say_versions(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Print the versions and hashes that differ between then and now."""
    if before.get("result_hash") != after.get("result_hash"):
        say("what decides the results is not the same: weights, algorithm or files differ")
    old, new = before.get("libraries", {}), after.get("libraries", {})
    pairs = {"gixi_bluesky": (before.get("version"), after.get("version"))} | {
        name: (old.get(name), new.get(name)) for name in sorted({*old, *new})
    }
    for name, (then, now) in pairs.items():
        if then != now:
            say(f"{name}: {then} then, {now} now")

"""A bundle written: the run, its tables, cuts and picture, what made it, and how to cite it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from gixi_bluesky.errors import StoreError
from gixi_bluesky.tiled_adapters.bundles.citation import Citation
from gixi_bluesky.tiled_adapters.bundles.crate import write_crate
from gixi_bluesky.tiled_adapters.bundles.layout import (
    CONFIGURATION,
    PROVENANCE,
    SOFTWARE,
    require_empty,
    write_checksums,
)
from gixi_bluesky.tiled_adapters.client.export import write_csv, write_cuts, write_nexus
from gixi_bluesky.tiled_adapters.client.readable_runs import ReadableRun
from gixi_bluesky.tiled_adapters.drawing.overview import Overview
from gixi_bluesky.tiled_adapters.schema import complete_columns

__all__ = ["AnalysisRecipe", "write_bundle"]

_SCRIPT = """#!/bin/sh
# Analyse the raw run again and compare the results with those of this bundle, table by table.
# usage: sh reproduce.sh RAW      RAW: the address of a Tiled server, or the folder of the images
set -e
here=$(dirname "$0")
if ! command -v gixi-bluesky >/dev/null; then
    python3 -m venv gixi-environment
    gixi-environment/bin/pip install -c "$here/requirements.txt" "gixi_bluesky=={version}"
    PATH="$PWD/gixi-environment/bin:$PATH"
fi
gixi-bluesky reproduce "$here" --raw "$1"
"""


@dataclass(frozen=True, slots=True)
class AnalysisRecipe:
    """The configuration and the files that make a result again.

    configuration: what decides results, with the names of files in the bundle
    inputs: the files by their names in the bundle
    """

    configuration: Mapping[str, Any]
    inputs: Mapping[str, Path] = field(default_factory=dict)


def write_bundle(
    run: ReadableRun, folder: Path, recipe: AnalysisRecipe, citation: Citation
) -> Path:
    """Write a bundle into an empty or new folder and return the folder.

    Raises StoreError for a run that has not ended, for a folder with content, and when the disk
    refuses; the folder is empty then.
    """
    stop = run.stop
    if stop is None:
        message = (
            f"run {run.start['uid']} has not ended, so that its results may still grow; publish "
            "it when it has its stop"
        )
        raise StoreError(message)
    require_empty(folder)
    # Written beside its place, so that a full disk leaves no half bundle.
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        part.mkdir()
        _write(run, part, recipe, citation, stop)
        part.replace(folder)
    except OSError as error:
        message = (
            f"cannot write {folder}: {error}; nothing of it was kept. Free some space or choose "
            "another place, and publish again"
        )
        raise StoreError(message) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _write(
    run: ReadableRun,
    folder: Path,
    recipe: AnalysisRecipe,
    citation: Citation,
    stop: Mapping[str, Any],
) -> None:
    uid = str(run.start["uid"])
    described, results = _write_results(run, folder)
    inputs = _write_recipe(run, folder, recipe)
    described |= inputs
    described |= _write_records(folder, citation)
    ended = datetime.fromtimestamp(float(stop.get("time", run.start["time"])), UTC)
    names = [name for name in inputs if name.startswith(("inputs/", CONFIGURATION))]
    write_crate(
        folder,
        citation,
        described,
        inputs=names,
        results=results,
        made=ended.isoformat(timespec="seconds"),
        license_text=f"Ask the creators before you use the data of run {uid}.",
    )
    write_checksums(folder)


def _write_results(run: ReadableRun, folder: Path) -> tuple[dict[str, str], list[str]]:
    uid = run.start["uid"]
    write_nexus(run, folder / f"{uid}.nxs")
    described = {f"{uid}.nxs": "The whole run: images, tables, cuts, provenance (NeXus, HDF5)"}
    tables = {table.name: table for table in run.tables}
    for path in write_csv(run, folder / "tables"):
        name = path.stem.removeprefix(f"{uid}_")
        columns = ", ".join(c.name for c in tables[name].columns)
        described[f"tables/{path.name}"] = f"The table {name}; columns: {columns}"
    if run.cuts and write_cuts(run, folder / "cuts"):
        described["cuts/"] = "Cuts of each frame: axis, intensity, sigma"
    Overview(_Drawn(run)).save(folder / "picture.png")
    described["picture.png"] = "Intensity, peaks over time, polar image, (q_xy, q_z)"
    return described, list(described)


def _write_recipe(run: ReadableRun, folder: Path, recipe: AnalysisRecipe) -> dict[str, str]:
    described = {}
    for name, source in recipe.inputs.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        described[name] = "An input of the analysis, named by the configuration"
    text = yaml.safe_dump(dict(recipe.configuration), sort_keys=False, allow_unicode=True)
    (folder / CONFIGURATION).write_text(text, encoding="utf-8")
    described[CONFIGURATION] = "The configuration: all that decides the results"
    provenance = run.start["gixi"].get("provenance", {})
    _write_json(folder / PROVENANCE, provenance)
    described[PROVENANCE] = "Versions, hashes and devices of the analysis"
    distributions = {one.metadata["Name"]: one.version for one in metadata.distributions()}
    lines = [f"{name}=={version}\n" for name, version in sorted(distributions.items()) if name]
    (folder / SOFTWARE).write_text("".join(lines), encoding="utf-8")
    described[SOFTWARE] = "The software that was installed where the bundle was made"
    script = _SCRIPT.replace("{version}", str(provenance.get("version", "")))
    (folder / "reproduce.sh").write_text(script, encoding="utf-8")
    described["reproduce.sh"] = "Analyses the raw run again and compares"
    return described


def _write_records(folder: Path, citation: Citation) -> dict[str, str]:
    records: dict[str, tuple[Any, str]] = {
        "datacite-processed.json": (citation.datacite("processed"), "DataCite record of images"),
        "datacite-analysed.json": (citation.datacite("analysed"), "DataCite record of tables"),
        "datacite-backward-links.json": (
            citation.backward_links(),
            "What the records of raw data, software and article should say of these, by DOI",
        ),
        "zenodo.json": (citation.zenodo(), "Metadata of a Zenodo deposit"),
    }
    for name, (record, _) in records.items():
        _write_json(folder / name, record)
    return {name: description for name, (_, description) in records.items()}


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


class _Drawn:
    """A stored run as the overview reads it."""

    def __init__(self, run: ReadableRun) -> None:
        self._run = run
        self.start = run.start
        self.summary: Mapping[str, Any] = (run.stop or {}).get("gixi", {})

    def frames(self) -> Any:
        return self._table("frames")

    def peaks(self) -> Any:
        return self._table("peaks")

    def matches(self) -> Any:
        return self._table("matches")

    def match_peaks(self) -> Any:
        return self._table("match_peaks")

    def polar_image(self, frame: int) -> Any:
        step = max(self.start["gixi"].get("image_step", 1), 1)
        row, rest = divmod(frame, step)
        if rest or row >= self._run.n_images:
            message = f"there is no image of frame {frame}"
            raise StoreError(message)
        return self._run.image(row)

    def _table(self, name: str) -> Any:
        return complete_columns(self._run.table(name), name)

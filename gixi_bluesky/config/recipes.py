"""The configuration of a stored result as a bundle holds it, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from gixi_bluesky.config import DECIDING, Config, stored_config
from gixi_bluesky.config.yaml_files import read_yaml
from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing.settings import WEIGHTS_FILES, MaskFile
from gixi_bluesky.processing.steps.settings import StepSettings
from gixi_bluesky.tiled_adapters.bundles.layout import (
    CONFIGURATION,
    INPUTS,
    PROVENANCE,
    checked_files,
)
from gixi_bluesky.tiled_adapters.bundles.making import AnalysisRecipe

__all__ = ["bundled_config", "recipe_of"]

_DROPPED = re.compile(r"[^A-Za-z0-9._-]+")


def recipe_of(start: Mapping[str, Any], folder: Path) -> AnalysisRecipe:
    """Return what makes a stored run again: its configuration, and the files that it names.

    start: its start document; folder: where copies of its files may lie, too
    Raises ConfigError for a file that is gone or has another content than it had.
    """
    provenance = start["gixi"].get("provenance", {})
    configuration = provenance.get("config", {})
    config = stored_config(configuration, provenance, folder=folder, source=start["uid"])
    tree = config.model_dump(mode="json", by_alias=True, include=set(DECIDING))
    tree["steps"] = configuration.get("steps", [])
    inputs: dict[str, Path] = {}

    def keep(path: Path, kind: str) -> str:
        name = f"{INPUTS}/{kind}/{_DROPPED.sub('_', path.name)}"
        if inputs.get(name, path) != path:
            name = f"{INPUTS}/{kind}/{len(inputs)}-{_DROPPED.sub('_', path.name)}"
        inputs[name] = path
        return name

    _rename_files(config, tree, keep)
    return AnalysisRecipe(tree, inputs)


def bundled_config(bundle: Path) -> tuple[Config, dict[str, Any]]:
    """Return the configuration and the provenance of a bundle, once its files were checked.

    Steps are taken by their entry points only. Raises StoreError and ConfigError for a bundle
    that is not as it was made.
    """
    files = checked_files(bundle)
    try:
        tree = read_yaml(files[CONFIGURATION])
        provenance = yaml.safe_load(files[PROVENANCE].read_text(encoding="utf-8"))
    except KeyError as error:
        message = f"{bundle} has no {error.args[0]}; it is no bundle of an analysis"
        raise ConfigError(message) from error
    if not isinstance(tree, dict) or not isinstance(provenance, dict):
        message = f"{bundle} holds no configuration of an analysis"
        raise ConfigError(message)
    root = bundle.resolve()
    config = stored_config(tree, provenance, folder=root, source=str(bundle))
    for place in _places(config):
        if not place.is_relative_to(root):
            message = f"{bundle}: the configuration names {place}, which is not in the bundle"
            raise ConfigError(message)
    steps = tuple(StepSettings.model_validate(one) for one in tree.get("steps", []))
    return config.model_copy(update={"steps": steps}), provenance


def _places(config: Config) -> list[Path]:
    found: list[Path] = []

    def note(path: Path, kind: str) -> str:
        del kind
        found.append(path)
        return ""

    _rename_files(config, config.model_dump(mode="json", by_alias=True), note)
    return found


def _rename_files(config: Config, tree: dict[str, Any], keep: Callable[[Path, str], str]) -> None:
    """Put other names of its files into the tree of a configuration."""
    geometry, corrections = config.geometry, config.corrections

    def named(place: Path, kind: str) -> str:
        file, mark, dataset = str(place).partition("::")
        return f"{keep(Path(file), kind)}{mark}{dataset}"

    if geometry.poni is not None:
        tree["geometry"]["poni"] = named(geometry.poni, "calibration")
    if geometry.nexus is not None:
        tree["geometry"]["nexus"] = named(geometry.nexus, "calibration")
    if isinstance(geometry.mask, MaskFile):
        tree["geometry"]["mask"]["file"] = named(geometry.mask.file, "mask")
    elif geometry.mask is not None:
        tree["geometry"]["mask"] = named(geometry.mask, "mask")
    if corrections.flat is not None:
        tree["corrections"]["flat"] = named(corrections.flat, "flat")
    if corrections.dark_file is not None:
        tree["corrections"]["dark"] = named(corrections.dark_file, "dark")
    if config.detector.weights.endswith(WEIGHTS_FILES):
        tree["detector"]["weights"] = named(Path(config.detector.weights), "weights")
    tree["matching"]["cif"] = [named(path, "cif") for path in config.matching.cif]

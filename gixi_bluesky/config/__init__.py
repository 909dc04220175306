"""The configuration: composes the settings of all parts and loads them from YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import Repr
from typing import Any

from pydantic import Field, ValidationError, model_validator

from gixi_bluesky.callbacks.documents.value_sources import (
    DarkStream,
    RunCorrectionSettings,
    RunGeometrySettings,
)
from gixi_bluesky.callbacks.kafka.settings import KafkaSettings
from gixi_bluesky.callbacks.settings import InputSettings, QueueSettings, SlurmSettings
from gixi_bluesky.config.stored_files import StoredFiles
from gixi_bluesky.config.yaml_files import read_yaml
from gixi_bluesky.errors import ConfigError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processing.cuts.settings import Cuts
from gixi_bluesky.processing.settings import (
    DetectorSettings,
    GridSettings,
    MatchingSettings,
    Settings,
)
from gixi_bluesky.processing.steps.settings import Steps
from gixi_bluesky.processing.texture.settings import Textures
from gixi_bluesky.processing.tracks.settings import TrackSettings
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings

__all__ = [
    "DECIDING",
    "Config",
    "Problem",
    "load_config",
    "parse_config",
    "problems",
    "stored_config",
]

_RESULT_FILES = {".nxs", ".h5", ".hdf5"}

# Sections taken from a stored configuration: those that decide results, no servers or outputs.
DECIDING = (
    "geometry",
    "grid",
    "corrections",
    "detector",
    "matching",
    "cuts",
    "textures",
    "tracks",
)
_QUIET = frozenset({"tiled", "kafka"})  # sections whose values no message repeats
_shown = Repr()
_shown.maxstring = _shown.maxother = 100
_log = get_logger()


@dataclass(frozen=True, slots=True)
class Problem:
    """An error at a key, such as `grid.shape`."""

    where: str
    message: str


class Config(Settings):
    """The whole configuration; only `geometry` has no default."""

    geometry: RunGeometrySettings
    input: InputSettings = InputSettings()
    grid: GridSettings = GridSettings()
    corrections: RunCorrectionSettings = RunCorrectionSettings()
    detector: DetectorSettings = DetectorSettings()
    matching: MatchingSettings = MatchingSettings()
    cuts: Cuts = Field(default_factory=dict, description="curves of each frame, by name")
    textures: Textures = Field(default_factory=dict, description="orientation of rings, by name")
    tracks: TrackSettings = TrackSettings()
    steps: Steps = Field((), description="entry points of gixi_bluesky.steps, with parameters")
    queue: QueueSettings = QueueSettings()
    output: OutputSettings = OutputSettings()
    tiled: TiledSettings = TiledSettings()
    kafka: KafkaSettings = KafkaSettings()
    slurm: SlurmSettings = SlurmSettings()

    @model_validator(mode="after")
    def _dark_apart(self) -> Config:
        dark = self.corrections.dark
        if isinstance(dark, DarkStream) and dark.stream == self.input.stream:
            message = f"corrections.dark and input both name the stream {dark.stream!r}"
            raise ValueError(message)
        return self


def load_config(path: str | Path) -> Config:
    """Read a YAML configuration, or the one by which a result file (.nxs, .h5) was made.

    Relative paths are relative to the file's folder. Of a result file, only what decides results
    is taken, see `stored_config`. Raises ConfigError for an unreadable file, an unknown key or a
    wrong value.
    """
    path = Path(path)
    folder = path.absolute().parent
    if path.suffix in _RESULT_FILES:
        configuration, provenance = _of_results(path)
        return stored_config(configuration, provenance, folder=folder, source=str(path))
    return parse_config(read_yaml(path), folder=folder, source=str(path))


def stored_config(
    configuration: Mapping[str, Any], provenance: Mapping[str, Any], *, folder: Path, source: str
) -> Config:
    """Return the configuration of a stored result, which is data from outside.

    Taken are the sections that decide results; servers, brokers, outputs, inputs and batch jobs
    are left at their defaults. A file that it names is taken, at its place or beside the result,
    only if its sha256 is the one in `provenance`. Raises ConfigError for a file that is missing or
    another one, and for a dark that is a run on a server.
    """
    tree = {section: configuration[section] for section in DECIDING if section in configuration}
    left = sorted(set(configuration) - set(tree))
    config = parse_config(tree, folder=folder, source=source)
    standard = DetectorSettings()
    detector = config.detector.model_copy(
        update={"device": standard.device, "engine": standard.engine}
    )
    config = config.model_copy(update={"detector": detector})
    config = StoredFiles(provenance, tree, folder, source).verified(config)
    _log.info("stored_configuration", file=source, taken=sorted(tree), left_out=left)
    return config


def _of_results(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    from gixi_bluesky.tiled_adapters.files.result_reading import open_result, result_metadata

    try:
        with open_result(path) as file:
            stored = result_metadata(file)
        configuration, provenance = stored["configuration"], stored["provenance"]
    except (OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        message = f"{path} is no result file that holds its configuration: {error}"
        raise ConfigError(message) from error
    if not (isinstance(configuration, dict) and isinstance(provenance, dict)):
        message = f"{path} is no result file that holds its configuration"
        raise ConfigError(message)
    return configuration, provenance


def parse_config(tree: object, *, folder: Path, source: str = "the configuration") -> Config:
    """Validate a configuration tree; `folder` is what relative paths start from."""
    if not isinstance(tree, dict):
        message = f"{source}: got {type(tree).__name__}; expected keys such as geometry and grid"
        raise ConfigError(message)
    try:
        config = Config.model_validate(tree, context={"folder": folder})
    except ValidationError as error:
        raise ConfigError(_explain(error, source)) from error
    # The default directory, too, lies beside the configuration.
    output = config.output.model_copy(update={"directory": folder / config.output.directory})
    return config.model_copy(update={"output": output})


def problems(tree: object, *, folder: Path) -> list[Problem]:
    """Return what is wrong with a configuration tree, key by key; nothing if it is valid."""
    try:
        parse_config(tree, folder=folder)
    except ConfigError as error:
        cause = error.__cause__
        if isinstance(cause, ValidationError):
            return list(_problems(cause))
        return [Problem("configuration", str(error))]
    return []


def _explain(error: ValidationError, source: str) -> str:
    lines = [f"  {problem.where}: {problem.message}" for problem in _problems(error)]
    return "\n".join((f"{source} is not valid:", *lines))


def _problems(error: ValidationError) -> Iterator[Problem]:
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"]) or "configuration"
        if problem["type"] == "extra_forbidden":
            yield Problem(where, "unknown key; see `gixi-bluesky config schema`")
        elif problem["type"] == "missing":
            yield Problem(where, "missing, and it has no default")
        else:
            got = "" if where.split(".")[0] in _QUIET else f"; got {_shown.repr(problem['input'])}"
            yield Problem(where, f"{problem['msg']}{got}")

"""The configuration: composes the settings of all parts and loads them from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

from gixi_bluesky.callbacks.kafka.settings import KafkaSettings
from gixi_bluesky.callbacks.settings import InputSettings, QueueSettings, SlurmSettings
from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing.settings import (
    CorrectionSettings,
    DarkStream,
    DetectorSettings,
    GeometrySettings,
    GridSettings,
    MatchingSettings,
    Settings,
)
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings

__all__ = ["Config", "is_result_file", "load_config", "parse_config"]

# Settings that hold paths, to be resolved against the configuration file's folder.
_PATHS = (
    ("input", "roots"),
    ("geometry", "poni"),
    ("geometry", "nexus"),
    ("geometry", "mask"),
    ("corrections", "dark"),
    ("corrections", "flat"),
    ("detector", "weights"),
    ("matching", "cif"),
    ("queue", "spill_directory"),
    ("tiled", "api_key_file"),
    ("kafka", "shared_spool"),
    ("kafka", "heartbeat_file"),
    ("kafka", "sasl_password_file"),
    ("kafka", "ssl_ca_file"),
    ("kafka", "ssl_certificate_file"),
    ("kafka", "ssl_key_file"),
)
_WEIGHTS_FILES = (".safetensors", ".onnx")
_RESULT_FILES = {".nxs", ".h5", ".hdf5"}


class Config(Settings):
    """Everything the analysis needs to know; only `geometry` has no default."""

    geometry: GeometrySettings
    input: InputSettings = InputSettings()
    grid: GridSettings = GridSettings()
    corrections: CorrectionSettings = CorrectionSettings()
    detector: DetectorSettings = DetectorSettings()
    matching: MatchingSettings = MatchingSettings()
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

    Relative paths are relative to the file's folder. Raises ConfigError for an unreadable file, an
    unknown key or a wrong value.
    """
    path = Path(path)
    if is_result_file(path):
        return parse_config(_of_results(path), folder=path.absolute().parent, source=str(path))
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"cannot read the configuration {path}: {error.strerror}"
        raise ConfigError(message) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = f"{path} is not valid YAML: {error}"
        raise ConfigError(message) from error
    return parse_config(tree, folder=path.absolute().parent, source=str(path))


def is_result_file(path: str | Path) -> bool:
    """Return whether a configuration would come out of a stored result."""
    return Path(path).suffix in _RESULT_FILES


def _of_results(path: Path) -> dict[str, Any]:
    from gixi_bluesky.tiled_adapters.files.nexus import read_configuration

    try:
        return read_configuration(path)
    except (OSError, KeyError) as error:
        message = f"{path} is no result file that holds its configuration: {error}"
        raise ConfigError(message) from error


def parse_config(tree: object, *, folder: Path, source: str = "the configuration") -> Config:
    """Validate a configuration tree; `folder` is what relative paths start from."""
    if not isinstance(tree, dict):
        message = f"{source}: got {type(tree).__name__}; expected keys such as geometry and grid"
        raise ConfigError(message)
    try:
        config = Config.model_validate(_absolute(tree, folder))
    except ValidationError as error:
        raise ConfigError(_explain(error, source)) from error
    # The default directory, too, lies beside the configuration.
    output = config.output.model_copy(update={"directory": folder / config.output.directory})
    return config.model_copy(update={"output": output})


def _absolute(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    tree = {key: dict(value) if isinstance(value, dict) else value for key, value in tree.items()}
    for section, key in _PATHS:
        values = tree.get(section)
        if not isinstance(values, dict) or values.get(key) is None:
            continue
        value = values[key]
        if key == "weights" and not str(value).endswith(_WEIGHTS_FILES):
            continue  # a name
        if isinstance(value, list | tuple):
            values[key] = [str(folder / item) for item in value]
        elif isinstance(value, str | Path):
            values[key] = str(folder / value)
    return tree


def _explain(error: ValidationError, source: str) -> str:
    lines = [f"{source} is not valid:"]
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"]) or "configuration"
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {where}: unknown key; see `gixi-bluesky config schema`")
        elif problem["type"] == "missing":
            lines.append(f"  {where}: missing, and it has no default")
        else:
            lines.append(f"  {where}: {problem['msg']}; got {problem['input']!r}")
    return "\n".join(lines)

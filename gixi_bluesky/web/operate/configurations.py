"""Configurations that people edit in the page: only what decides results, kept with history."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from gixi_bluesky.config import DECIDING, Config, Problem, load_config, parse_config, problems
from gixi_bluesky.config.stored_files import places
from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing.settings import WEIGHTS_FILES
from gixi_bluesky.processing.structures.cif_files import shipped_cifs

__all__ = ["Configurations", "Version"]

_HEAD = "# "
# Keys of the detector that decide no result: where and how fast it runs.
_OF_THE_SERVER = frozenset({"device", "engine"})


@dataclass(frozen=True, slots=True)
class Version:
    """A configuration that was saved: who, when (ISO 8601, UTC), and why."""

    number: int
    who: str
    when: str
    note: str


class Configurations:
    """The server's configuration, and the versions of it that were made in the page.

    A version differs from the server's own configuration only in the sections that decide results,
    and names no other files than that one does, apart from structures beside its own.

    base: the server's configuration, YAML
    folder: where versions are kept, `0001.yaml` and so on
    """

    def __init__(self, base: Path, folder: Path) -> None:
        self._base = load_config(base)
        self._home = base.absolute().parent
        self._folder = folder
        self._saving = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def base(self) -> Config:
        """The server's own configuration."""
        return self._base

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of what can be edited."""
        schema = Config.model_json_schema()
        sections = {name: schema["properties"][name] for name in DECIDING}
        for name in _OF_THE_SERVER:
            del schema["$defs"]["DetectorSettings"]["properties"][name]
        return {**schema, "properties": sections, "required": ["geometry"]}

    def structures(self) -> list[str]:
        """Return the CIFs that a version may name."""
        return sorted(map(str, self._structures()))

    def editable(self, number: int = 0) -> dict[str, Any]:
        """Return the sections that can be edited, of a version or (0) of the server's own."""
        config = self.config(number)
        tree = config.model_dump(
            mode="json", by_alias=True, include=set(DECIDING), exclude_unset=True
        )
        detector = tree.get("detector", {})
        for name in _OF_THE_SERVER:
            detector.pop(name, None)
        return tree

    def config(self, number: int = 0) -> Config:
        """Return a version, or (0) the server's own. Raises ConfigError for one that is none."""
        return load_config(self.file(number)) if number else self._base

    def file(self, number: int) -> Path:
        """Return where a version lies. Raises ConfigError for a number that is none."""
        path = self._folder / f"{number:04d}.yaml"
        if number < 1 or not path.is_file():
            message = f"there is no version {number} of the configuration"
            raise ConfigError(message)
        return path

    def problems(self, edited: Mapping[str, Any]) -> list[Problem]:
        """Return what is wrong with edited sections, key by key."""
        found = problems(self._merged(edited), folder=self._home)
        if found:
            return found
        try:
            self.validated(edited)
        except ConfigError as error:
            return [Problem("configuration", str(error))]
        return []

    def validated(self, edited: Mapping[str, Any]) -> Config:
        """Return the server's configuration with edited sections.

        Raises ConfigError for a section that cannot be edited, a wrong value, or a file that the
        server's configuration does not name.
        """
        if others := sorted(set(edited) - set(DECIDING)):
            message = f"{', '.join(others)} cannot be edited; expected {', '.join(DECIDING)}"
            raise ConfigError(message)
        config = parse_config(self._merged(edited), folder=self._home, source="the edited values")
        if others := sorted(_OF_THE_SERVER & set(_mapping(edited.get("detector")))):
            message = f"detector.{others[0]} decides no result and is the server's own"
            raise ConfigError(message)
        allowed = _files(self._base) | set(map(str, self._structures()))
        if strange := sorted(_files(config) - allowed):
            message = (
                f"{strange[0]} is not a file of the server's own configuration, which names the "
                "files that may be used; structures may be chosen among those beside its own"
            )
            raise ConfigError(message)
        return config

    def versions(self) -> list[Version]:
        """Return all versions, the newest first."""
        found = [_version(path) for path in self._folder.glob("[0-9]*.yaml")]
        return sorted(found, key=lambda version: -version.number)

    def save(self, edited: Mapping[str, Any], who: str, when: str, note: str) -> Version:
        """Keep edited sections as a new version. Raises ConfigError as `validated` does."""
        config = self.validated(edited)
        tree = config.model_dump(mode="json", by_alias=True, exclude_unset=True)
        tree["output"] = config.output.model_dump(mode="json", by_alias=True)
        text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
        with self._saving:
            number = max((one.number for one in self.versions()), default=0) + 1
            version = Version(number, who, when, " ".join(note.split())[:200])
            head = _HEAD + yaml.safe_dump(
                asdict(version), default_flow_style=True, width=10_000, allow_unicode=True
            )
            path = self._folder / f"{number:04d}.yaml"
            draft = path.with_suffix(".new")
            draft.write_text(head + text, encoding="utf-8")
            draft.replace(path)
        return version

    def _merged(self, edited: Mapping[str, Any]) -> dict[str, Any]:
        tree = self._base.model_dump(mode="json", by_alias=True, exclude_unset=True)
        kept = {name: value for name, value in tree.items() if name not in DECIDING}
        own = tree.get("detector", {})
        detector = {
            **{name: own[name] for name in _OF_THE_SERVER if name in own},
            **_mapping(edited.get("detector")),
        }
        odd = not isinstance(edited.get("detector", {}), Mapping)
        return {**kept, **edited} if odd else {**kept, **edited, "detector": detector}

    def _structures(self) -> set[Path]:
        named = [Path(path) for path in self._base.matching.cif]
        folders = {path if path.is_dir() else path.parent for path in named}
        beside = {path for folder in folders for path in folder.glob("*.[cC][iI][fF]")}
        return beside | set(named) | set(shipped_cifs().values())


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _files(config: Config) -> set[str]:
    """Return the files and addresses that the sections that decide results name."""
    sections = config.model_dump(include=set(DECIDING))
    named = {str(place) for place in places(sections)}
    weights = config.detector.weights
    return named | ({weights} if weights.endswith(WEIGHTS_FILES) else set())


def _version(path: Path) -> Version:
    with path.open(encoding="utf-8") as file:
        head = yaml.safe_load(file.readline().removeprefix(_HEAD))
    return Version(**head)

"""The files that a stored configuration names, used only if their content is unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gixi_bluesky.callbacks.documents.value_sources import DarkRun
from gixi_bluesky.errors import ConfigError, GixiError
from gixi_bluesky.processing.settings import (
    WEIGHTS_FILES,
    CorrectionSettings,
    GeometrySettings,
    MaskFile,
    Settings,
)
from gixi_bluesky.provenance import file_sha256

if TYPE_CHECKING:
    from gixi_bluesky.config import Config

__all__ = ["StoredFiles", "places"]

_MAX_BYTES = 8 << 30  # of a file that is hashed


class StoredFiles:
    """Finds the files of a stored configuration, by name and by the sha256 that was stored.

    provenance: of the stored result
    sections: of the configuration that were taken from it
    folder: where a copy may lie instead, beside the result; source: its name in messages
    """

    def __init__(
        self, provenance: Mapping[str, Any], sections: Iterable[str], folder: Path, source: str
    ) -> None:
        self._provenance = provenance
        self._sections = frozenset(sections)
        self._folder = folder
        self._source = source

    def verified(self, config: Config) -> Config:
        """Return the configuration with files whose content is unchanged."""
        updates: dict[str, dict[str, Any]] = {
            "geometry": self._calibration(config.geometry),
            "corrections": self._corrections(config.corrections),
            "detector": {"weights": self._weights(config.detector.weights)},
            "matching": {"cif": self._structures(config.matching.cif)},
        }
        config = config.model_copy(
            update={
                section: getattr(config, section).model_copy(update=update)
                for section, update in updates.items()
            }
        )
        verified = set(places(updates))
        for place in places(config.model_dump(include=set(self._sections))):
            if place not in verified:
                message = f"{self._source} names {place!s:.200}, which no hash is stored of"
                raise ConfigError(message)
        return config

    def _calibration(self, settings: GeometrySettings) -> dict[str, Any]:
        return {
            "poni": self._one("geometry.poni", settings.poni, self._provenance.get("poni_sha256")),
            "mask": self._mask(settings.mask),
            "nexus": settings.nexus and self._nexus(settings.nexus),
        }

    def _mask(self, mask: Path | MaskFile | None) -> Path | MaskFile | None:
        sha256 = self._provenance.get("mask_sha256")
        if isinstance(mask, MaskFile):
            file = self._same("geometry.mask", mask.file, sha256)
            return mask.model_copy(update={"file": file})
        return self._one("geometry.mask", mask, sha256)

    def _corrections(self, settings: CorrectionSettings) -> dict[str, Any]:
        hashes, dark = self._hashes("correction_sha256"), settings.dark
        if isinstance(dark, DarkRun):
            if dark.file is None:
                message = (
                    f"{self._source}: corrections.dark is the run {dark.run:.80} of a server, "
                    "which a stored configuration is not given; give a YAML configuration"
                )
                raise ConfigError(message)
            dark = dark.file
        if isinstance(dark, Path):
            dark = self._one("corrections.dark", dark, hashes.get("dark"))
        return {
            "dark": dark,
            "flat": self._one("corrections.flat", settings.flat, hashes.get("flat")),
        }

    def _hashes(self, name: str) -> Mapping[str, Any]:
        hashes = self._provenance.get(name)
        return hashes if isinstance(hashes, dict) else {}

    def _one(self, setting: str, path: Path | None, sha256: object) -> Path | None:
        return path and self._same(setting, path, sha256)

    def _same(self, setting: str, path: Path, sha256: object) -> Path:
        """Return where a file with this sha256 lies, as it is named or beside the result.

        path: FILE or FILE::DATASET, of which the file is meant
        """
        name, mark, dataset = str(path).partition("::")
        for place in dict.fromkeys((Path(name), self._folder / Path(name).name)):
            try:
                if place.stat().st_size <= _MAX_BYTES and file_sha256(place) == sha256:
                    return Path(f"{place}{mark}{dataset}") if mark else place
            except (OSError, ValueError):
                continue
        raise ConfigError(self._missing(setting, path, sha256))

    def _nexus(self, place: Path) -> Path:
        """Return a NeXus calibration whose values are unchanged."""
        from gixi_bluesky.processing.geometry.nexus_calibration import read_nexus

        sha256 = self._provenance.get("nexus_sha256")
        file, mark, group = str(place).partition("::")
        beside = Path(f"{self._folder / Path(file).name}{mark}{group}")
        for here in dict.fromkeys((place, beside)):
            try:
                if read_nexus(here).sha256 == sha256:
                    return here
            except GixiError:
                continue
        raise ConfigError(self._missing("geometry.nexus", place, sha256))

    def _weights(self, weights: str) -> str:
        if not weights.endswith(WEIGHTS_FILES):
            return weights  # a name, of weights that this machine has
        sha256 = self._provenance.get("weights_sha256")
        return str(self._same("detector.weights", Path(weights), sha256))

    def _structures(self, cifs: tuple[Path, ...]) -> tuple[Path, ...]:
        """Return the CIFs with the stored hashes among the named files and folders."""
        wanted = {str(value) for value in self._hashes("cif_sha256").values()}
        if not cifs:
            return ()
        found: dict[str, Path] = {}
        for path in _candidates((*cifs, self._folder)):
            try:
                sha256 = file_sha256(path) if path.stat().st_size <= _MAX_BYTES else ""
            except (OSError, ValueError):
                continue
            if sha256 in wanted:
                found.setdefault(sha256, path)
        if wanted - found.keys() or not wanted:
            missing = next(iter(wanted - found.keys()), None)
            raise ConfigError(self._missing("matching.cif", cifs[0], missing))
        return tuple(found.values())

    def _missing(self, setting: str, path: Path, sha256: object) -> str:
        return (
            f"{self._source}: {setting} is {path!s:.200} with the sha256 {sha256!s:.64}; no such "
            f"file is there or in {self._folder}. Put a copy there, or give a YAML configuration"
        )


def _candidates(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        try:
            inside = path.is_dir()
            yield from sorted(path.glob("*.[cC][iI][fF]")) if inside else (path,)
        except (OSError, ValueError):
            continue


def places(values: object) -> Iterator[object]:
    """Yield the paths and addresses among values."""
    if isinstance(values, Settings):
        yield from places(values.model_dump())
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from places(value)
    elif isinstance(values, tuple | list | set | frozenset):
        for value in values:
            yield from places(value)
    elif isinstance(values, Path) or (isinstance(values, str) and "://" in values):
        yield values

"""Records for repositories: DataCite of processed and analysed data, and Zenodo."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from gixi_bluesky.errors import ConfigError

__all__ = ["Citation", "Creator", "Kind", "read_creators"]

Kind = Literal["processed", "analysed"]

_SOFTWARE = "gixi_bluesky"
_UNKNOWN = ":unav"  # DataCite's value for what is not known
_ORCID = re.compile(r"(?:https://orcid\.org/)?(\d{4}-\d{4}-\d{4}-\d{3}[\dX])")
_MAX_CREATORS_BYTES = 1 << 20

# DataCite's relationType from one to the other, in both directions.
_RELATIONS: Mapping[tuple[str, str], str] = {
    ("processed", "raw"): "IsDerivedFrom",
    ("raw", "processed"): "IsSourceOf",
    ("analysed", "processed"): "IsDerivedFrom",
    ("processed", "analysed"): "IsSourceOf",
    ("analysed", "raw"): "IsDerivedFrom",
    ("raw", "analysed"): "IsSourceOf",
    ("processed", "software"): "IsCompiledBy",
    ("analysed", "software"): "IsCompiledBy",
    ("software", "processed"): "Compiles",
    ("software", "analysed"): "Compiles",
    ("processed", "article"): "IsSupplementTo",
    ("analysed", "article"): "IsSupplementTo",
    ("article", "processed"): "IsSupplementedBy",
    ("article", "analysed"): "IsSupplementedBy",
}
_TYPES: Mapping[str, str] = {
    "raw": "Dataset",
    "processed": "Dataset",
    "analysed": "Dataset",
    "software": "Software",
    "article": "JournalArticle",
}


@dataclass(frozen=True, slots=True)
class Creator:
    """A person or an institution that made the data.

    name: "Family, Given" of a person; orcid: 16 digits with hyphens, empty = none
    """

    name: str
    orcid: str = ""
    affiliation: str = ""


@dataclass(frozen=True, slots=True)
class Citation:
    """The facts that the records of one derived run are made from.

    dois: by kind, of raw, processed and analysed data, software and article
    license: an SPDX identifier such as CC-BY-4.0, empty = none was chosen
    """

    uid: str
    title: str
    description: str
    version: str
    taken: float
    creators: tuple[Creator, ...] = ()
    license: str = ""
    publisher: str = _UNKNOWN
    dois: Mapping[str, str] = field(default_factory=dict)

    def datacite(self, kind: Kind) -> dict[str, Any]:
        """Return the DataCite 4 record of processed or analysed data."""
        now = datetime.now(UTC)
        record: dict[str, Any] = {
            "schemaVersion": "http://datacite.org/schema/kernel-4",
            "types": {"resourceTypeGeneral": "Dataset", "resourceType": f"{kind} GIXD data"},
            "creators": [_datacite_creator(one) for one in self.creators] or [{"name": _UNKNOWN}],
            "titles": [{"title": f"{self.title}: {kind} data"}],
            "publisher": {"name": self.publisher},
            "publicationYear": str(now.year),
            "dates": [
                {
                    "date": datetime.fromtimestamp(self.taken, UTC).isoformat(),
                    "dateType": "Collected",
                },
                {"date": now.date().isoformat(), "dateType": "Created"},
            ],
            "subjects": [{"subject": "grazing-incidence X-ray diffraction"}],
            "version": self.version,
            "descriptions": [{"description": self.description, "descriptionType": "Abstract"}],
            "alternateIdentifiers": [
                {"alternateIdentifier": f"urn:uuid:{self.uid}", "alternateIdentifierType": "UUID"}
            ],
            "relatedIdentifiers": list(self.related(kind)),
        }
        if self.license:
            record["rightsList"] = [{"rights": self.license, "rightsIdentifier": self.license}]
        if kind in self.dois:
            record["doi"] = self.dois[kind]
        return record

    def related(self, kind: str) -> Iterator[dict[str, str]]:
        """Yield the related identifiers of a record, for all whose DOI is known."""
        for other, doi in self.dois.items():
            if (kind, other) in _RELATIONS:
                yield {
                    "relatedIdentifier": doi,
                    "relatedIdentifierType": "DOI",
                    "relationType": _RELATIONS[kind, other],
                    "resourceTypeGeneral": _TYPES[other],
                }

    def backward_links(self) -> dict[str, list[dict[str, str]]]:
        """Return by DOI what the records of raw data, software and article should say of these."""
        others = [kind for kind in ("raw", "software", "article") if kind in self.dois]
        return {
            self.dois[other]: [
                {
                    "relatedIdentifier": self.dois.get(kind, f"urn:uuid:{self.uid}"),
                    "relatedIdentifierType": "DOI" if kind in self.dois else "URN",
                    "relationType": _RELATIONS[other, kind],
                    "resourceTypeGeneral": "Dataset",
                }
                for kind in ("processed", "analysed")
            ]
            for other in others
        }

    def zenodo(self) -> dict[str, Any]:
        """Return the metadata of a Zenodo deposit of the bundle, which holds analysed data."""
        related = [
            {
                "identifier": one["relatedIdentifier"],
                "relation": one["relationType"][0].lower() + one["relationType"][1:],
                "resource_type": one["resourceTypeGeneral"]
                .lower()
                .replace("journalarticle", "publication-article"),
            }
            for one in self.related("analysed")
        ]
        creators = [
            {
                key: value
                for key, value in (
                    ("name", one.name),
                    ("orcid", one.orcid),
                    ("affiliation", one.affiliation),
                )
                if value
            }
            for one in self.creators
        ]
        metadata: dict[str, Any] = {
            "upload_type": "dataset",
            "title": self.title,
            "description": self.description,
            "creators": creators or [{"name": _UNKNOWN}],
            "keywords": ["GIXD", "GIWAXS", "X-ray diffraction"],
            "version": self.version,
            "related_identifiers": related,
        }
        if self.license:
            metadata |= {"license": self.license.lower(), "access_right": "open"}
        return {"metadata": metadata}


def read_creators(path: Path) -> tuple[Creator, ...]:
    """Read creators from a YAML list of {name, orcid, affiliation}. Raises ConfigError."""
    try:
        if path.stat().st_size > _MAX_CREATORS_BYTES:
            raise ConfigError(f"{path} is too long for a list of creators")
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        message = f"{path} cannot be read as YAML: {error}"
        raise ConfigError(message) from error
    if not isinstance(tree, list) or not tree:
        message = f"{path}: got {type(tree).__name__}; expected a list with a name for each"
        raise ConfigError(message)
    return tuple(_creator(one, path) for one in tree)


def _creator(given: object, path: Path) -> Creator:
    known = {"name", "orcid", "affiliation"}
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, dict) or not given.get("name") or set(given) - known:
        message = f"{path}: got {given!r:.120}; expected name, and perhaps orcid and affiliation"
        raise ConfigError(message)
    orcid = str(given.get("orcid", ""))
    found = _ORCID.fullmatch(orcid)
    if orcid and found is None:
        message = f"{path}: got the ORCID {orcid!r:.60}; expected 0000-0000-0000-0000"
        raise ConfigError(message)
    affiliation = str(given.get("affiliation", ""))
    return Creator(str(given["name"]), found[1] if found else "", affiliation)


def _datacite_creator(creator: Creator) -> dict[str, Any]:
    record: dict[str, Any] = {"name": creator.name}
    family, comma, first = creator.name.partition(", ")
    if comma:
        record |= {"nameType": "Personal", "familyName": family, "givenName": first}
    if creator.orcid:
        record["nameIdentifiers"] = [
            {
                "nameIdentifier": f"https://orcid.org/{creator.orcid}",
                "nameIdentifierScheme": "ORCID",
                "schemeUri": "https://orcid.org",
            }
        ]
    if creator.affiliation:
        record["affiliation"] = [{"name": creator.affiliation}]
    return record

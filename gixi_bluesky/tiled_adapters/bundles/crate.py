"""The RO-Crate metadata of a bundle: what each file is, and which action made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rocrate.model.contextentity import ContextEntity
from rocrate.model.person import Person
from rocrate.model.softwareapplication import SoftwareApplication
from rocrate.rocrate import ROCrate

from gixi_bluesky.provenance import file_sha256
from gixi_bluesky.tiled_adapters.bundles.citation import Citation
from gixi_bluesky.tiled_adapters.bundles.layout import SOFTWARE

__all__ = ["write_crate"]

_FORMATS = {
    ".nxs": "application/x-hdf5",
    ".csv": "text/csv",
    ".yaml": "application/yaml",
    ".json": "application/json",
    ".png": "image/png",
    ".cif": "chemical/x-cif",
    ".md": "text/markdown",
    ".txt": "text/plain",
    ".sh": "text/x-shellscript",
    ".poni": "text/plain",
}
_SPDX = "https://spdx.org/licenses/"


def write_crate(
    folder: Path,
    citation: Citation,
    described: Mapping[str, str],
    *,
    inputs: Sequence[str],
    results: Sequence[str],
    made: str,
    license_text: str = "",
) -> None:
    """Write `ro-crate-metadata.json` of a bundle whose other files are there.

    described: what each file or folder is, by its name in the bundle; of folders with a final /
    inputs, results: names of what the analysis read and made; made: ISO time when it ended
    """
    crate = ROCrate()
    crate.name = citation.title
    crate.description = citation.description
    crate.root_dataset["identifier"] = _identifier(crate, citation.uid)
    crate.root_dataset["datePublished"] = made
    crate.root_dataset["license"] = _license(crate, citation.license, license_text)
    _add_people(crate, citation)
    entities = {name: _add(crate, folder, name, text) for name, text in described.items()}
    software = crate.add(
        SoftwareApplication(
            crate,
            "#gixi_bluesky",
            properties={
                "name": "gixi_bluesky",
                "version": citation.version,
                "softwareVersion": citation.version,
                "description": "Real-time analysis of grazing-incidence X-ray diffraction",
                "url": _software_url(citation),
            },
        )
    )
    action = crate.add_action(
        software,
        identifier=f"urn:uuid:{citation.uid}",
        object=_one_or_all([entities[name] for name in inputs]),
        result=_one_or_all([entities[name] for name in results]),
        properties={"name": "Analysis of the raw run", "endTime": made},
    )
    links: dict[str, list[Any]] = {"mentions": [action]}
    for kind, doi in citation.dois.items():
        property_name = {"raw": "isBasedOn", "article": "citation"}.get(kind, "mentions")
        other = crate.add(
            ContextEntity(
                crate,
                f"https://doi.org/{doi}",
                properties={"@type": "CreativeWork", "name": f"{kind}: {doi}"},
            )
        )
        links.setdefault(property_name, []).append(other)
    for property_name, others in links.items():
        crate.root_dataset[property_name] = _one_or_all(others)
    crate.metadata.write(folder)


def _identifier(crate: ROCrate, uid: str) -> Any:
    value = {"@type": "PropertyValue", "name": "UUID of the run", "value": f"urn:uuid:{uid}"}
    return crate.add(ContextEntity(crate, "#uuid", properties=value))


def _software_url(citation: Citation) -> str:
    """Return the DOI of the software, without one the list of versions in the bundle."""
    doi = citation.dois.get("software")
    return f"https://doi.org/{doi}" if doi else SOFTWARE


def _one_or_all(entities: list[Any]) -> Any:
    """Return the only entity, or all: RO-Crate advises against lists of one."""
    return entities[0] if len(entities) == 1 else entities


def _add(crate: ROCrate, folder: Path, name: str, description: str) -> Any:
    properties: dict[str, Any] = {"name": name, "description": description}
    if name.endswith("/"):
        files = sorted(path for path in (folder / name).rglob("*") if path.is_file())
        about = {"description": description}
        parts = [_add_file(crate, folder, path, {**about, "name": path.name}) for path in files]
        properties["hasPart"] = [{"@id": part.id} for part in parts]
        return crate.add_directory(dest_path=name, properties=properties)
    return _add_file(crate, folder, folder / name, properties)


def _add_file(crate: ROCrate, folder: Path, path: Path, properties: dict[str, Any]) -> Any:
    described = properties | {
        "contentSize": str(path.stat().st_size),
        "sha256": file_sha256(path),
        "encodingFormat": _FORMATS.get(path.suffix.lower(), "application/octet-stream"),
    }
    return crate.add_file(dest_path=path.relative_to(folder).as_posix(), properties=described)


def _add_people(crate: ROCrate, citation: Citation) -> None:
    people = []
    for number, one in enumerate(citation.creators):
        identifier = f"https://orcid.org/{one.orcid}" if one.orcid else f"#creator-{number}"
        described: dict[str, Any] = {"name": one.name}
        if one.affiliation:
            described["affiliation"] = _organization(crate, one.affiliation)
        people.append(crate.add(Person(crate, identifier, properties=described)))
    if people:
        crate.root_dataset["author"] = _one_or_all(people)


def _organization(crate: ROCrate, name: str) -> Any:
    properties = {"@type": "Organization", "name": name}
    return crate.add(ContextEntity(crate, f"#organization-{quote(name)}", properties=properties))


def _license(crate: ROCrate, identifier: str, text: str) -> Any:
    if identifier:
        place, described = (
            f"{_SPDX}{identifier}",
            {
                "name": identifier,
                "description": f"The licence with the SPDX identifier {identifier}",
            },
        )
    else:
        place, described = "#no-license", {"name": "no licence was chosen", "description": text}
    return crate.add(ContextEntity(crate, place, properties={"@type": "CreativeWork", **described}))

"""The RO-Crate metadata of a bundle: what each file is, and which action made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.model.person import Person
from rocrate.model.softwareapplication import SoftwareApplication
from rocrate.rocrate import ROCrate

from gixi_bluesky.provenance import file_sha256
from gixi_bluesky.tiled_adapters.bundles.citation import Citation

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
    crate.root_dataset["identifier"] = f"urn:uuid:{citation.uid}"
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
            },
        )
    )
    crate.add_action(
        software,
        identifier=f"urn:uuid:{citation.uid}",
        object=[entities[name] for name in inputs],
        result=[entities[name] for name in results],
        properties={"name": "Analysis of the raw run", "endTime": made},
    )
    for kind, doi in citation.dois.items():
        property_name = {"raw": "isBasedOn", "article": "citation"}.get(kind, "mentions")
        other = crate.add(
            ContextEntity(
                crate,
                f"https://doi.org/{doi}",
                properties={"@type": "CreativeWork", "name": f"{kind}: {doi}"},
            )
        )
        crate.root_dataset.append_to(property_name, other)
    crate.metadata.write(folder)


def _add(crate: ROCrate, folder: Path, name: str, description: str) -> Any:
    properties: dict[str, Any] = {"name": name, "description": description}
    if name.endswith("/"):
        return crate.add_directory(dest_path=name, properties=properties)
    path = folder / name
    properties |= {
        "contentSize": str(path.stat().st_size),
        "sha256": file_sha256(path),
        "encodingFormat": _FORMATS.get(path.suffix.lower(), "application/octet-stream"),
    }
    return crate.add_file(dest_path=name, properties=properties)


def _add_people(crate: ROCrate, citation: Citation) -> None:
    for number, one in enumerate(citation.creators):
        identifier = f"https://orcid.org/{one.orcid}" if one.orcid else f"#creator-{number}"
        described: dict[str, Any] = {"name": one.name}
        if one.affiliation:
            described["affiliation"] = one.affiliation
        person = crate.add(Person(crate, identifier, properties=described))
        crate.root_dataset.append_to("author", person)


def _license(crate: ROCrate, identifier: str, text: str) -> Any:
    if identifier:
        place, described = f"{_SPDX}{identifier}", {"name": identifier}
    else:
        place, described = "#no-license", {"name": "no licence was chosen", "description": text}
    return crate.add(ContextEntity(crate, place, properties={"@type": "CreativeWork", **described}))

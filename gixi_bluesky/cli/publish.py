"""`publish`: a derived run with all that made it, as a folder that can be deposited."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gixi_bluesky.cli.console import say
from gixi_bluesky.cli.export import found_run
from gixi_bluesky.cli.options import ResultsDirectory, ServerUri, StoreConfigFile

__all__ = ["publish"]


def publish(
    uid: Annotated[
        str, typer.Argument(help="Uid of the derived run; on a server also of the raw run.")
    ],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="A new or empty folder.")],
    tiled: ServerUri = None,
    config: StoreConfigFile = None,
    directory: ResultsDirectory = Path("results"),
    raw_doi: Annotated[str, typer.Option(metavar="DOI", help="Of the raw data.")] = "",
    processed_doi: Annotated[str, typer.Option(metavar="DOI", help="Of the images.")] = "",
    article_doi: Annotated[str, typer.Option(metavar="DOI", help="Of the article.")] = "",
    software_doi: Annotated[str, typer.Option(metavar="DOI", help="Of this package.")] = "",
    license: Annotated[  # noqa: A002 - the name of the option
        str, typer.Option(metavar="SPDX", help="Such as CC-BY-4.0.")
    ] = "",
    creators: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML list of name, orcid, affiliation."),
    ] = None,
    title: Annotated[str, typer.Option(help="Instead of the name of the sample.")] = "",
    upload: Annotated[
        str | None,
        typer.Option(
            metavar="API",
            help="Make a draft with Zenodo's interface, such as https://zenodo.org/api; the token "
            "is in GIXI_DEPOSIT_TOKEN.",
        ),
    ] = None,
) -> None:
    """Write a run, its tables, cuts, picture, configuration and inputs as an RO-Crate.

    DataCite and Zenodo metadata with links in both directions are in it. Nothing is uploaded
    without --upload, and nothing is made public: the draft waits for its owner.
    """
    from gixi_bluesky.config.recipes import recipe_of
    from gixi_bluesky.tiled_adapters.bundles.citation import Citation, read_creators
    from gixi_bluesky.tiled_adapters.bundles.making import write_bundle
    from gixi_bluesky.tiled_adapters.settings import OutputSettings

    run = found_run(uid, tiled, config, directory)
    provenance = run.start["gixi"].get("provenance", {})
    given = {
        "raw": raw_doi,
        "processed": processed_doi,
        "article": article_doi,
        "software": software_doi,
    }
    dois = dict(provenance.get("config", {}).get("output", {}).get("dois", {}))
    dois |= {kind: doi for kind, doi in given.items() if doi}
    sample = str(run.start.get("sample_name", "")) or "a thin film"
    citation = Citation(
        uid=str(run.start["uid"]),
        title=title or f"Grazing-incidence X-ray diffraction of {sample}",
        description=(
            f"Peaks, phases and images found in the raw run {run.start['gixi']['raw_uid']} by "
            f"gixi_bluesky {provenance.get('version', '')}."
        ),
        version=str(provenance.get("version", "")),
        taken=float(run.start["time"]),
        creators=() if creators is None else read_creators(creators),
        license=license,
        dois={str(kind): doi for kind, doi in OutputSettings(dois=dois).dois.items()},
    )
    recipe = recipe_of(run.start, directory.absolute())
    say(f"wrote {write_bundle(run, out, recipe, citation)}")
    if upload is not None:
        from gixi_bluesky.tiled_adapters.bundles.deposit import upload_draft

        say(f"the draft is {upload_draft(out, upload, citation.zenodo())}; it is not public yet")

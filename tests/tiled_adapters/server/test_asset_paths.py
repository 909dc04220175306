"""The server gives out files of its storage only, whatever a key that may write registers."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from tiled.structures.core import StructureFamily
from tiled.structures.data_source import Asset, DataSource, Management
from tiled.structures.table import TableStructure

from gixi_bluesky.tiled_adapters.server.embedded import EmbeddedServer, embedded_server

SECRET = "name,password\nroot,hush\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("home")
    (home / "secret.csv").write_text(SECRET)
    served = home / "served"
    served.mkdir()
    (served / "own.csv").write_text("a\n1\n")
    (served / "link.csv").symlink_to(home / "secret.csv")
    with embedded_server(served) as running:
        yield running


def register(server: EmbeddedServer, key: str, path: str) -> Any:
    structure = TableStructure.from_pandas(pd.DataFrame({"a": [1]}))
    source = DataSource(
        structure_family=StructureFamily.table,
        structure=structure,
        mimetype="text/csv",
        assets=[
            Asset(
                data_uri=f"file://localhost{path}",
                is_directory=False,
                parameter="data_uris",
                num=0,
            )
        ],
        management=Management.external,
    )
    return server.catalog("gixi").new(StructureFamily.table, [source], key=key, metadata={})


@pytest.mark.server
@pytest.mark.parametrize("tail", ["../secret.csv", "link.csv"])
def test_a_path_that_leads_out_of_the_storage_is_not_served(
    server: EmbeddedServer, tail: str
) -> None:
    node = register(server, tail.strip("./").replace(".", "-"), f"{server.directory}/{tail}")
    http = node.context.http_client
    for link in (
        f"{server.uri}/table/full/gixi/{node.path_parts[-1]}?format=text/csv",
        f"{server.uri}/asset/bytes/gixi/{node.path_parts[-1]}?id={node.data_sources()[0].assets[0].id}",
    ):
        response = http.get(link)
        assert response.status_code >= 400
        assert "hush" not in response.text


@pytest.mark.server
def test_a_file_of_the_storage_is_served(server: EmbeddedServer) -> None:
    node = register(server, "own", f"{server.directory}/own.csv")
    assert node.read()["a"].tolist() == [1]
    asset = node.data_sources()[0].assets[0].id
    raw = node.context.http_client.get(f"{server.uri}/asset/bytes/gixi/own?id={asset}")
    assert raw.text == "a\n1\n"

"""A bundle as a draft of a repository: a stand-in that answers as Zenodo's documentation says."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gixi_bluesky.errors import ConfigError, StoreError
from gixi_bluesky.tiled_adapters.bundles.deposit import DEPOSIT_TOKEN, upload_draft

TOKEN = "not-a-secret"
METADATA = {"metadata": {"title": "a film", "upload_type": "dataset"}}


class Repository(ThreadingHTTPServer):
    """Depositions and their files; `refused` is a part of the addresses that answer with 403."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.drafts: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.refused = "nothing"
        self.bucket_origin = ""  # another one than its own

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api"


class _Handler(BaseHTTPRequestHandler):
    server: Repository

    def do_POST(self) -> None:
        self._body()
        number = str(len(self.server.drafts) + 1)
        self.server.drafts[number] = {}
        own = f"http://127.0.0.1:{self.server.server_port}"
        bucket = f"{self.server.bucket_origin or own}/api/files/{number}"
        self._reply(201, {"id": int(number), "links": {"bucket": bucket}})

    def do_PUT(self) -> None:
        body, key = self._body(), self.path.rsplit("/", 1)[1]
        if "/files/" in self.path:
            self.server.files[key] = body
            self._reply(201, {"key": key})
            return
        self.server.drafts[key] = json.loads(body)
        self._reply(200, {"links": {"html": f"{self.server.api}/deposit/{key}"}})

    def do_DELETE(self) -> None:
        del self.server.drafts[self.path.rsplit("/", 1)[1]]
        self._reply(204, {})

    def log_message(self, *_: Any) -> None:
        """Keep the output of tests clean."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _reply(self, status: int, answer: dict[str, Any]) -> None:
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if not allowed or (self.server.refused in self.path and self.command == "PUT"):
            status, answer = 403, {"message": "no"}
        content = b"" if status == 204 else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    monkeypatch.setenv(DEPOSIT_TOKEN, TOKEN)
    server = Repository()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "film"
    (folder / "tables").mkdir(parents=True)
    (folder / "tables" / "peaks.csv").write_text("q\n1.0\n")
    (folder / "ro-crate-metadata.json").write_text("{}")
    return folder


def test_a_draft_holds_the_bundle_and_its_metadata(repository: Repository, bundle: Path) -> None:
    address = upload_draft(bundle, repository.api, METADATA)
    assert address == f"{repository.api}/deposit/1"
    assert repository.drafts == {"1": METADATA}
    with zipfile.ZipFile(io.BytesIO(repository.files["film.zip"])) as archive:
        assert archive.read("tables/peaks.csv") == b"q\n1.0\n"
        assert "ro-crate-metadata.json" in archive.namelist()


@pytest.mark.parametrize("refused", ["/files/", "/depositions/1"])
def test_a_draft_that_is_refused_is_removed(
    repository: Repository, bundle: Path, refused: str
) -> None:
    repository.refused = refused
    with pytest.raises(StoreError, match=r"refused PUT .*: 403 .*nothing was deposited"):
        upload_draft(bundle, repository.api, METADATA)
    assert repository.drafts == {}


@pytest.mark.parametrize(
    "origin", ["http://localhost:{}", "https://127.0.0.1:{}", "http://127.0.0.1"]
)
def test_the_token_goes_to_no_other_server(
    repository: Repository, bundle: Path, origin: str
) -> None:
    repository.bucket_origin = origin.format(repository.server_port)
    with pytest.raises(StoreError, match="another server"):
        upload_draft(bundle, repository.api, METADATA)
    assert repository.files == {}


def test_without_a_token_nothing_is_sent(
    repository: Repository, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DEPOSIT_TOKEN)
    with pytest.raises(ConfigError, match=DEPOSIT_TOKEN):
        upload_draft(bundle, repository.api, METADATA)
    monkeypatch.setenv(DEPOSIT_TOKEN, TOKEN)
    with pytest.raises(ConfigError, match="has a user, a query"):
        upload_draft(bundle, f"{repository.api}?access_token={TOKEN}", METADATA)
    assert repository.drafts == {}


def test_a_repository_that_is_away_is_an_error(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEPOSIT_TOKEN, TOKEN)
    with pytest.raises(StoreError, match="cannot be reached"):
        upload_draft(bundle, "http://127.0.0.1:9/api", METADATA)

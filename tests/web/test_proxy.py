"""The live view of a server that is not ours: what passes, and what does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gixi_bluesky.errors import ConfigError, StoreError
from gixi_bluesky.tiled_adapters.server.listening import serving_app
from gixi_bluesky.web.serving import proxied_live_view

KEY = "abcdefgh12345678"
pytestmark = pytest.mark.server


async def _echo(request: Request) -> Response:
    return JSONResponse(
        {
            "method": request.method,
            "path": request.scope["raw_path"].decode(),
            "query": str(request.url.query),
            "key": request.headers.get("authorization"),
            "cookie": request.headers.get("cookie"),
        },
        headers={"Set-Cookie": "theirs=1", "ETag": "e"},
    )


async def _stream(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_bytes(websocket.headers.get("authorization", "none").encode())
    await websocket.close()


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    tiled = Starlette(
        routes=[
            WebSocketRoute("/prefix/api/v1/stream/single/{path:path}", _stream),
            Route("/{path:path}", _echo, methods=["GET", "POST", "PUT", "DELETE"]),
        ]
    )
    with pytest.MonkeyPatch.context() as patch, serving_app(tiled, "127.0.0.1", 0) as port:
        patch.setenv("TILED_API_KEY", KEY)
        uri = f"http://127.0.0.1:{port}/prefix/api/v1/metadata/a/b"
        with proxied_live_view(uri, 0) as address:
            yield address


def _session(page: str) -> tuple[httpx.Client, str]:
    address, _, key = page.partition("#key=")
    base = address.partition("/gixi/")[0]
    client = httpx.Client(base_url=base)
    done = client.post("/gixi/session", headers={"Authorization": f"Apikey {key}"})
    assert done.status_code == 204
    return client, base


def test_reading_passes_with_the_key_of_the_session_only(page):
    assert "/gixi/?in=a/b#key=" in page
    assert KEY not in page
    client, _ = _session(page)
    with contextlib.closing(client):
        answer = client.get("/api/v1/array/full/a%20b?slice=0:1")
    reported = answer.json()
    assert reported["path"] == "/prefix/api/v1/array/full/a%20b"
    assert reported["query"] == "slice=0:1"
    assert reported["key"] == f"Apikey {KEY}"
    assert reported["cookie"] is None  # sessions of the page are none of the server's business
    assert answer.headers["etag"] == "e"
    assert "theirs" not in answer.cookies


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/api/v1/array/full/x", 404),
        ("DELETE", "/api/v1/metadata/x", 404),
        ("POST", "/api/v1/metadata/x", 404),
        ("GET", "/docs", 404),
        ("POST", "/api/v1/auth/provider/ldap/token", 200),
        ("POST", "/api/v1/auth/apikey", 200),
    ],
)
def test_only_reading_and_signing_in_pass(page, method, path, status):
    with httpx.Client(base_url=page.partition("/gixi/")[0]) as client:
        assert client.request(method, path).status_code == status


def test_websockets_pass_both_ways(page):
    client, base = _session(page)
    with contextlib.closing(client):
        cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())

    async def ask() -> bytes:
        address = base.replace("http", "ws") + "/api/v1/stream/single/a"
        async with connect(address, origin=base, additional_headers={"Cookie": cookies}) as one:
            first = await one.recv()
            with pytest.raises(ConnectionClosed):
                await one.recv()
            return first

    assert asyncio.run(ask()).decode() == f"Apikey {KEY}"


def test_a_server_that_is_away_is_one_clear_answer():
    with proxied_live_view("http://127.0.0.1:9", 0) as address:
        answer = httpx.get(address.partition("/gixi/")[0] + "/api/v1/")
    assert answer.status_code == 502
    assert "does not answer" in answer.text


@pytest.mark.parametrize("uri", ["tiled.example", "ftp://host", "http://host/?api_key=secret"])
def test_what_is_no_address_is_refused(uri):
    with pytest.raises(ConfigError, match="http://HOST:PORT"), proxied_live_view(uri, 0):
        pass


def test_a_port_that_is_taken_is_refused(page):
    port = int(page.split(":")[2].split("/")[0])
    with (
        pytest.raises(StoreError, match="choose another port"),
        proxied_live_view("http://127.0.0.1:9", port),
    ):
        pass

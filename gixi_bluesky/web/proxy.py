"""A Tiled server elsewhere, as an ASGI application: reading, websockets and signing in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

import httpx
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

__all__ = ["TiledProxy"]

_SENT = {"accept", "accept-encoding", "authorization", "content-type", "if-none-match", "range"}
_RECEIVED = {"content-type", "content-encoding", "content-length", "etag", "vary", "retry-after"}
_SIGN_IN = re.compile(r"/api/v1/auth/(provider/[^/]+/token|apikey)")
_LONGEST_BODY = 10_000
_LARGEST_MESSAGE = 64_000_000
_TIMEOUT_S = 30.0


class TiledProxy:
    """Passes requests below `/api/v1/` on to a server; it holds no key and no cookie itself.

    base: `http://HOST:PORT` of the server, with the path of its root if it has one
    """

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or websocket, or follow the life of the server."""
        if scope["type"] == "http":
            response = await self._answer(Request(scope, receive))
            await response(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._relay(WebSocket(scope, receive, send))
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await self._client.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        reads = request.method in {"GET", "HEAD"} and path.startswith("/api/v1/")
        if not reads and not (request.method == "POST" and _SIGN_IN.fullmatch(path)):
            return PlainTextResponse("the live view only reads\n", 404)
        body = b"" if reads else await request.body()
        if len(body) > _LONGEST_BODY:
            return PlainTextResponse("the request is too long\n", 413)
        asked = self._client.build_request(
            request.method,
            self._address(scope=request.scope),
            headers=_chosen(request.headers, _SENT),
            content=body or None,
        )
        try:
            answer = await self._client.send(asked, stream=True)
        except httpx.HTTPError:
            return PlainTextResponse("the Tiled server does not answer\n", 502)
        return StreamingResponse(
            answer.aiter_raw(),
            answer.status_code,
            headers=_chosen(answer.headers, _RECEIVED),
            background=BackgroundTask(answer.aclose),
        )

    async def _relay(self, page: WebSocket) -> None:
        address = re.sub("^http", "ws", self._address(scope=page.scope))
        key = page.headers.get("authorization")
        try:
            server = await connect(
                address,
                additional_headers={"Authorization": key} if key else None,
                max_size=_LARGEST_MESSAGE,
            )
        except (OSError, WebSocketException, TimeoutError):
            await page.close(1013)
            return
        await page.accept()
        reading = [asyncio.create_task(one(page, server)) for one in (_to_page, _to_server)]
        _, pending = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        await server.close()

    def _address(self, scope: Scope) -> str:
        path = scope.get("raw_path", scope["path"].encode()).decode("ascii")
        query = scope["query_string"].decode("ascii")
        return f"{self._base}{path}?{query}" if query else f"{self._base}{path}"


async def _to_page(page: WebSocket, server: ClientConnection) -> None:
    try:
        async for message in server:
            if isinstance(message, bytes):
                await page.send_bytes(message)
            else:
                await page.send_text(message)
        await page.close(1012)
    except (ConnectionClosed, WebSocketDisconnect, RuntimeError):
        return


async def _to_server(page: WebSocket, server: ClientConnection) -> None:
    try:
        while True:
            await server.send(await page.receive_text())
    except (ConnectionClosed, WebSocketDisconnect, RuntimeError, KeyError):
        return


def _chosen(headers: Headers | Mapping[str, str], names: set[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() in names}

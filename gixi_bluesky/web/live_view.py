"""The page at `/gixi/` and the Tiled server behind it, as one ASGI application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gixi_bluesky.web.health import Health, Watched
from gixi_bluesky.web.page import WithHeaders, page_files
from gixi_bluesky.web.sessions import Sessions, viewing_key

if TYPE_CHECKING:
    from gixi_bluesky.web.operate import Operation

__all__ = ["PATH", "LiveView", "page_address"]

PATH = "/gixi"
OPERATE = f"{PATH}/operate"
_IMAGES = "/api/v1/array/"


class LiveView:
    """Serves the page below `/gixi/` and hands every other request to Tiled.

    Requests of the page carry an HttpOnly cookie instead of an Authorization header. The cookie
    opens Tiled for reading only: GET, HEAD and websockets of the same origin.

    tiled: the ASGI application of a Tiled server, or a proxy to one
    api_key: the key that the server's viewing key stands for, empty = there is none
    watched: consumers and disks whose state the page shows
    operation: what those may do who may write to Tiled, None = nothing; `tiled` must then have the
    route of `add_rights`
    """

    def __init__(
        self,
        tiled: ASGIApp,
        api_key: str = "",
        watched: Watched | None = None,
        operation: Operation | None = None,
    ) -> None:
        self._tiled = tiled
        self._sessions = Sessions(api_key)
        rights, operate = _operating(operation, tiled) if operation is not None else ("", [])
        health = Health(tiled, watched or Watched(), rights)
        routes = [
            Route(PATH, _to_page),
            Route(f"{PATH}/session", self._sessions.change, methods=["POST", "DELETE"]),
            Route(f"{PATH}/health.json", health.answer),
            *operate,
            Mount(PATH, page_files()),
        ]
        self._page = WithHeaders(Starlette(routes=routes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on with the key of its session."""
        path = scope.get("path", "")
        if scope["type"] == "http" and path.startswith(f"{OPERATE}/"):
            await self._page(scope, receive, send)  # without the session, which only reads
        elif scope["type"] == "http" and (path == PATH or path.startswith(f"{PATH}/")):
            await self._page(self._sessions.authorized(scope), receive, send)
        else:
            authorized = self._sessions.authorized(scope)
            of_page = authorized is not scope
            if of_page and path.startswith(_IMAGES):
                authorized = _as_it_is(authorized)
            await self._tiled(authorized, receive, send)


def _as_it_is(scope: Scope) -> Scope:
    """Return a request whose answer is not compressed.

    Compressing images of counts costs the server more time than reading them, and makes them
    smaller by a third at most (decision 74).
    """
    kept = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
    return {**scope, "headers": [*kept, (b"accept-encoding", b"identity")]}


def _operating(operation: Operation, tiled: ASGIApp) -> tuple[str, list[Route]]:
    """Return the path that answers who may operate, and the routes of operators."""
    # Here, since it loads Tiled's server, which `live` does without.
    from gixi_bluesky.web.operate import operate_routes, rights_path

    return rights_path(operation), operate_routes(OPERATE, operation, tiled)


async def _to_page(request: Request) -> Response:
    return RedirectResponse(request.url.path.rpartition("/")[2] + "/")


def page_address(base: str, api_key: str = "", node: str = "") -> str:
    """Return the address of the page on a server, with the viewing key in its fragment.

    base: `http://HOST:PORT`
    node: path of the Tiled container whose catalogues are shown, empty = the root
    """
    query = f"?in={node}" if node else ""
    fragment = f"#key={viewing_key(api_key)}" if api_key else ""
    return f"{base}{PATH}/{query}{fragment}"

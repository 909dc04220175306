"""Sessions of the page: a key becomes an HttpOnly cookie, the cookie an Authorization header."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

__all__ = ["COOKIE", "Sessions", "viewing_key"]

COOKIE = "gixi_session"
_KEY = re.compile(r"[A-Za-z0-9]{8,256}")
_SAFE = {"GET", "HEAD"}


def viewing_key(api_key: str) -> str:
    """Return a key that opens the server of `api_key` for reading through the page.

    It is the same as long as the API key is, so that open pages survive a restart of the server,
    and the API key cannot be computed from it.
    """
    return hmac.new(api_key.encode(), b"gixi live view", hashlib.sha256).hexdigest()[:40]


class Sessions:
    """Turns keys into cookies and cookies into the Authorization header that Tiled reads.

    api_key: the key that the viewing key stands for, empty = there is none
    """

    def __init__(self, api_key: str = "") -> None:
        self._api_key = api_key
        self._viewing_key = viewing_key(api_key) if api_key else ""

    async def change(self, request: Request) -> Response:
        """Set the cookie to the key of the Authorization header (POST), or remove it (DELETE)."""
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return Response("sessions are made by the page itself\n", 403)
        response = Response(status_code=204)
        name = _cookie_name(request.headers)
        if request.method == "DELETE":
            response.delete_cookie(name, httponly=True, samesite="strict")
            return response
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "apikey" or not _KEY.fullmatch(key):
            return Response("expected the header `Authorization: Apikey KEY`\n", 400)
        scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
        response.set_cookie(
            name, key, httponly=True, samesite="strict", secure=scheme == "https", path="/"
        )
        return response

    def authorized(self, scope: Scope) -> Scope:
        """Return the request with the key of its session, if it has one and may only read."""
        headers = Headers(scope=scope) if scope["type"] in {"http", "websocket"} else Headers()
        if "authorization" in headers or not _may_use_cookie(scope, headers):
            return scope
        key = _cookies(headers).get(_cookie_name(headers), "")
        if not _KEY.fullmatch(key):
            return scope
        if self._viewing_key and hmac.compare_digest(key, self._viewing_key):
            key = self._api_key
        return {
            **scope,
            "headers": [*scope["headers"], (b"authorization", f"Apikey {key}".encode())],
        }


def _may_use_cookie(scope: Scope, headers: Mapping[str, str]) -> bool:
    if scope["type"] == "http":
        return scope["method"] in _SAFE
    # Browsers let any site open a websocket with our cookies.
    origin = headers.get("origin", "").partition("://")[2]
    return scope["type"] == "websocket" and origin == _host(headers)


def _host(headers: Mapping[str, str]) -> str:
    return headers.get("x-forwarded-host") or headers.get("host", "")


def _cookie_name(headers: Mapping[str, str]) -> str:
    """Return a name of its own for each port, since browsers share cookies between ports."""
    port = _host(headers).rpartition("]")[2].partition(":")[2]
    return f"{COOKIE}_{port}" if port.isdigit() else COOKIE


def _cookies(headers: Mapping[str, str]) -> dict[str, str]:
    try:
        jar: SimpleCookie = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in jar.items()}

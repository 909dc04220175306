"""A client of an ASGI application that keeps its cookies."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

__all__ = ["BASE", "Browser"]

BASE = "http://127.0.0.1:8000"


class Browser:
    """Asks an ASGI application and keeps its cookies."""

    def __init__(self, app: Any) -> None:
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self._client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

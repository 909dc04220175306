"""The health of consumers and disks for the page: heartbeats, jobs, logs and free space."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from gixi_bluesky.web.consumers import consumers, logs, slurm_job

__all__ = ["Health", "Watched"]

_KEPT_S = 5.0  # Slurm is asked once for all viewers
_OK = 200


@dataclass(frozen=True, slots=True)
class Watched:
    """The folders that a server watches.

    heartbeats: folder of the heartbeats, jobs and logs of consumers, None = nowhere
    storage: folder whose disk must not be full, None = none
    """

    heartbeats: Path | None = None
    storage: Path | None = None


class Health:
    """Answers `health.json` to viewers who may read the server.

    tiled: the server that decides who may read
    rights: path on that server that answers `could_write` to those who may operate, empty = the
    page never offers it
    """

    def __init__(self, tiled: ASGIApp, watched: Watched, rights: str = "") -> None:
        self._tiled = tiled
        self._watched = watched
        self._rights = rights
        self._making = threading.Lock()
        self._report: dict[str, Any] | None = None
        self._made = 0.0

    async def answer(self, request: Request) -> Response:
        """Return consumers, their Slurm job and logs, and the free share of the disk."""
        key = request.headers.get("authorization")
        operated = bool(self._rights) and await self._could_write(key)
        if self._watched == Watched():
            return JSONResponse({"watching": False, "operated": operated})
        if (await self._ask("/api/v1/metadata/", key)).status_code != _OK:
            return JSONResponse({"detail": "sign in first"}, 401)
        report = await run_in_threadpool(self._current)
        return JSONResponse({**report, "operated": operated})

    async def _could_write(self, key: str | None) -> bool:
        answer = await self._ask(self._rights, key)
        return answer.status_code == _OK and bool(answer.json()["could_write"])

    async def _ask(self, path: str, key: str | None) -> httpx.Response:
        headers = {"authorization": key} if key else {}
        inside = httpx.ASGITransport(self._tiled)
        async with httpx.AsyncClient(transport=inside, base_url="http://tiled") as client:
            return await client.get(path, headers=headers)

    def _current(self) -> dict[str, Any]:
        """Return the report, made anew at most every few seconds for all viewers together."""
        with self._making:
            if self._report is None or time.monotonic() - self._made > _KEPT_S:
                self._report = _report(self._watched)
                self._made = time.monotonic()
            return self._report


def _report(watched: Watched) -> dict[str, Any]:
    folder = watched.heartbeats
    return {
        "watching": True,
        "consumers": consumers(folder) if folder else [],
        "slurm": slurm_job(folder) if folder else None,
        "logs": logs(folder) if folder else [],
        "disk_free": _free_share(watched.storage),
    }


def _free_share(folder: Path | None) -> float | None:
    if folder is None:
        return None
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free / usage.total

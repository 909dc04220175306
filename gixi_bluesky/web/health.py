"""The health of consumers and disks for the page: heartbeats and free space."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from gixi_bluesky.callbacks.kafka.heartbeat import read_heartbeat
from gixi_bluesky.errors import GixiError

__all__ = ["Health", "Watched"]

_MOST_FILES = 200
_OK = 200


@dataclass(frozen=True, slots=True)
class Watched:
    """The folders that a server watches.

    heartbeats: folder of the files that `consume --heartbeat` and Slurm jobs write, None = nowhere
    storage: folder whose disk must not be full, None = none
    """

    heartbeats: Path | None = None
    storage: Path | None = None


class Health:
    """Answers `health.json` to viewers who may read the server.

    tiled: the server that decides who may read
    """

    def __init__(self, tiled: ASGIApp, watched: Watched) -> None:
        self._tiled = tiled
        self._watched = watched

    async def answer(self, request: Request) -> Response:
        """Return the consumers with the age of their heartbeats, and the free share of the disk."""
        key = request.headers.get("authorization")
        if self._watched == Watched():
            return JSONResponse({"watching": False, "consumers": [], "disk_free": None})
        if not await self._may_read(key):
            return JSONResponse({"detail": "sign in first"}, 401)
        return JSONResponse(await run_in_threadpool(self._report))

    async def _may_read(self, key: str | None) -> bool:
        headers = {"authorization": key} if key else {}
        inside = httpx.ASGITransport(self._tiled)
        async with httpx.AsyncClient(transport=inside, base_url="http://tiled") as client:
            answer = await client.get("/api/v1/metadata/", headers=headers)
        return answer.status_code == _OK

    def _report(self) -> dict[str, Any]:
        return {
            "watching": True,
            "consumers": _consumers(self._watched.heartbeats),
            "disk_free": _free_share(self._watched.storage),
        }


def _consumers(folder: Path | None) -> list[dict[str, Any]]:
    """Return the heartbeats of a folder; other files are left out."""
    found = []
    for path in sorted(folder.glob("*.json"))[:_MOST_FILES] if folder else ():
        try:
            heartbeat = read_heartbeat(path)
        except (OSError, GixiError):
            continue
        values = asdict(heartbeat)
        age = max(0.0, time.time() - heartbeat.time)
        found.append({**values, "name": f"{path.stem} on {heartbeat.host}", "age_s": age})
    return found


def _free_share(folder: Path | None) -> float | None:
    if folder is None:
        return None
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free / usage.total

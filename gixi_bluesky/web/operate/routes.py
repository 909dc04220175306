"""The requests of the page's operator; each carries the key itself, never the viewer's cookie."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gixi_bluesky.errors import GixiError
from gixi_bluesky.log import get_logger
from gixi_bluesky.tiled_adapters.server.rights import RIGHTS_PATH
from gixi_bluesky.web.operate.operation import Operation, Operator

__all__ = ["operate_routes", "rights_path"]

_LARGEST_BODY = 1_000_000
_NUMBER = re.compile(r"[0-9]{1,9}")
_SHOWN = 300  # of what is recorded of a value
_log = get_logger()


class Asked(BaseModel):
    """The body of a request; what an action does not need is left out."""

    model_config = ConfigDict(extra="forbid")

    configuration: dict[str, Any] = Field(default_factory=dict)
    version: int = Field(0, ge=0)
    run: str = Field("", max_length=200, pattern=r"^[^/]*$")
    frame: int = Field(0, ge=0)
    tasks: int = 1
    number: int = 0
    note: str = Field("", max_length=1000)


Action = Callable[[Asked, Operator], dict[str, Any]]


def rights_path(operation: Operation) -> str:
    """Return the path on Tiled that answers whether one may write where derived runs are kept."""
    return f"{RIGHTS_PATH}?path={quote(operation.configurations.base.tiled.derived, safe='')}"


def operate_routes(prefix: str, operation: Operation, tiled: ASGIApp) -> list[Route]:
    """Return the routes below `prefix`; `tiled` is the server that decides who may use them."""
    desk = _Desk(operation, tiled)
    actions: dict[str, Action] = {
        "check": lambda asked, _: operation.check(asked.configuration),
        "try": lambda asked, by: operation.compare(
            asked.configuration, asked.version, asked.run, asked.frame, by.key
        ),
        "save": lambda asked, by: operation.save(asked.configuration, by.who, asked.note),
        "submit": lambda asked, _: operation.submit(asked.version, asked.tasks),
        "cancel": lambda _, __: {"job_id": operation.jobs.cancel()},
        "reprocess": lambda asked, by: operation.reprocess(asked.version, asked.run, by.key),
        "stop": lambda asked, _: {"stopped": operation.jobs.stop(asked.number)},
    }
    return [
        Route(f"{prefix}/state", desk.state),
        Route(f"{prefix}/jobs", desk.jobs),
        *(
            Route(f"{prefix}/{name}", desk.doing(name, action), methods=["POST"])
            for name, action in actions.items()
        ),
    ]


class _Desk:
    """Lets those act who may write to Tiled, and records each action."""

    def __init__(self, operation: Operation, tiled: ASGIApp) -> None:
        self._operation = operation
        self._tiled = tiled

    async def state(self, request: Request) -> Response:
        """Return the configuration, its schema and history, and the record."""
        operator = await self._operator(request)
        if operator is None:
            return _refused()
        version = request.query_params.get("version", "0")
        try:
            number = int(version) if _NUMBER.fullmatch(version) else 0
            known = await run_in_threadpool(self._operation.state, number)
        except GixiError as error:
            return JSONResponse({"detail": str(error)}, 422)
        return JSONResponse({"who": operator.who, **known})

    async def jobs(self, request: Request) -> Response:
        """Return the state of jobs, and their last log lines."""
        if await self._operator(request) is None:
            return _refused()
        return JSONResponse(await run_in_threadpool(self._operation.jobs.state))

    def doing(self, name: str, action: Action) -> Callable[[Request], Any]:
        """Return the endpoint of an action."""

        async def endpoint(request: Request) -> Response:
            operator = await self._operator(request)
            if operator is None:
                return _refused()
            body = await _body(request)
            if body is None:
                return JSONResponse({"detail": "the request is too long"}, 413)
            try:
                asked = Asked.model_validate_json(body)
            except ValidationError as error:
                wrong = "; ".join(f"{one['loc']}: {one['msg']}" for one in error.errors())
                return JSONResponse({"detail": f"the request is not valid: {wrong}"}, 422)
            return await run_in_threadpool(self._act, name, action, asked, operator)

        return endpoint

    def _act(self, name: str, action: Action, asked: Asked, operator: Operator) -> Response:
        details = asked.model_dump(exclude_defaults=True)
        try:
            answer = action(asked, operator)
        except (GixiError, OSError) as error:
            self._operation.record.add(operator.who, name, details, f"failed: {error}")
            return JSONResponse({"detail": str(error)}, 422)
        except Exception as error:  # recorded as well: something may have been done
            _log.exception("operation_failed", action=name)
            self._operation.record.add(operator.who, name, details, f"failed: {error!r}")
            return JSONResponse({"detail": f"unexpected error: {error!r}"}, 500)
        outcome = {key: value for key, value in answer.items() if isinstance(value, int | str)}
        summary = ", ".join(f"{key} {value!s:.{_SHOWN}}" for key, value in outcome.items())
        self._operation.record.add(operator.who, name, details, f"done {summary}".strip())
        return JSONResponse(answer)

    async def _operator(self, request: Request) -> Operator | None:
        """Return who asks, by the request's own key; None for those who may not write."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "apikey":
            key = ""
        inside = httpx.ASGITransport(self._tiled)
        async with httpx.AsyncClient(transport=inside, base_url="http://tiled") as client:
            path = rights_path(self._operation)
            answer = await client.get(path, headers={"authorization": f"Apikey {key}"})
        rights = answer.json() if answer.is_success else {"who": "unknown", "writes": False}
        if not rights["writes"]:
            asked = request.url.path.rpartition("/")[2]
            _log.warning("operation_refused", who=rights["who"], action=asked)
            return None
        return Operator(str(rights["who"]), key)


async def _body(request: Request) -> bytes | None:
    """Return the body, None if it is too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_BODY:
            return None
    return body


def _refused() -> Response:
    detail = "this needs a key that may write to the Tiled server; a viewer's key only reads"
    return JSONResponse({"detail": detail}, 403)

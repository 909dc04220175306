"""The right to write to a Tiled server, decided by its own authenticators and scopes."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI, Security
from tiled.server.authentication import check_scopes, get_current_principal

__all__ = ["RIGHTS_PATH", "WRITE_SCOPES", "add_rights"]

RIGHTS_PATH = "/api/v1/gixi/rights"
WRITE_SCOPES = ("write:metadata", "write:data")

_principal = Depends(get_current_principal)
_may_write = Security(check_scopes, scopes=list(WRITE_SCOPES))


def add_rights(app: FastAPI) -> None:
    """Add a route to Tiled that answers who asks, and 401 to those who may not write."""
    app.add_api_route(RIGHTS_PATH, _who, methods=["GET"], include_in_schema=False)
    routes = app.router.routes
    routes.insert(0, routes.pop())  # before those of Tiled that take every path


async def _who(principal: Any = _principal, _: None = _may_write) -> dict[str, str]:
    identities = getattr(principal, "identities", None) or ()
    names = [f"{one.id} ({one.provider})" for one in identities]
    if names:
        return {"who": ", ".join(names)}
    uuid = getattr(principal, "uuid", None)
    return {"who": f"service {uuid}" if uuid else "the server's own key"}

"""The right to write to a Tiled server, decided by its own authenticators, scopes and tags."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Security
from tiled.server.authentication import (
    check_scopes,
    get_current_access_tags,
    get_current_principal,
    get_current_scopes,
    get_session_state,
)
from tiled.server.dependencies import get_entry, get_root_tree

__all__ = ["RIGHTS_PATH", "WRITE_SCOPES", "add_rights"]

RIGHTS_PATH = "/api/v1/gixi/rights"
WRITE_SCOPES = ("write:metadata", "write:data")

_principal = Depends(get_current_principal)
_scopes = Depends(get_current_scopes)
_tags = Depends(get_current_access_tags)
_root = Depends(get_root_tree)
_session = Depends(get_session_state)
_may_read = Security(check_scopes, scopes=["read:metadata"])


def add_rights(app: FastAPI) -> None:
    """Add a route to Tiled that answers who asks, and whether they may write to a node.

    `GET RIGHTS_PATH?path=NODE` returns `who`, `writes` (the key of the request may write there) and
    `could_write` (another key of the same user may); 401 for those who may not even read.
    """
    app.add_api_route(RIGHTS_PATH, _rights, methods=["GET"], include_in_schema=False)
    routes = app.router.routes
    routes.insert(0, routes.pop())  # before those of Tiled that take every path


async def _rights(
    request: Request,
    path: str = "",
    principal: Any = _principal,
    scopes: Any = _scopes,
    tags: Any = _tags,
    root: Any = _root,
    session: Any = _session,
    _: None = _may_read,
) -> dict[str, str | bool]:
    async def writable(having: set[str], within: Any) -> bool:
        if not having.issuperset(WRITE_SCOPES):
            return False
        policy = getattr(request.app.state, "access_policy", None)
        metrics = request.state.metrics
        needed = list(WRITE_SCOPES)
        try:
            await get_entry(
                path, needed, principal, within, having, root, session, metrics, None, policy
            )
        except HTTPException:
            return False
        return True

    of_user = _scopes_of_roles(principal) or set(scopes)
    return {
        "who": _name(principal),
        "writes": await writable(set(scopes), tags),
        "could_write": await writable(of_user, None),
    }


def _scopes_of_roles(principal: Any) -> set[str]:
    """Return the scopes of the roles of a user, none for a request without a named user."""
    roles = getattr(principal, "roles", None) or ()
    return {str(getattr(one, "value", one)) for role in roles for one in role.scopes}


def _name(principal: Any) -> str:
    identities = getattr(principal, "identities", None) or ()
    names = [f"{one.id} ({one.provider})" for one in identities]
    if names:
        return ", ".join(names)
    uuid = getattr(principal, "uuid", None)
    return f"service {uuid}" if uuid else "the server's own key"

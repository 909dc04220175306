"""A bundle as a draft in a repository that has Zenodo's deposit interface."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from gixi_bluesky.errors import ConfigError, StoreError
from gixi_bluesky.tiled_adapters.settings import public_address

__all__ = ["DEPOSIT_TOKEN", "upload_draft"]

DEPOSIT_TOKEN = "GIXI_DEPOSIT_TOKEN"  # noqa: S105 - the name of the variable
_TIMEOUT_S = 60.0


def upload_draft(bundle: Path, api: str, metadata: Mapping[str, Any]) -> str:
    """Make a draft of a bundle, as one zip file with its metadata; return its address.

    api: address of the interface, such as https://zenodo.org/api
    metadata: as `Citation.zenodo` returns it

    Nothing is published: the draft waits for its owner. The token is in GIXI_DEPOSIT_TOKEN. Raises
    ConfigError without a token or with one in the address, StoreError when the repository refuses;
    an incomplete draft is removed.
    """
    token = os.environ.get(DEPOSIT_TOKEN, "")
    if not token:
        message = f"an upload needs a token of the repository in {DEPOSIT_TOKEN}"
        raise ConfigError(message)
    base = f"{public_address(api).rstrip('/')}/deposit/depositions"
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(headers=headers, timeout=_TIMEOUT_S) as client, _zipped(bundle) as archive:
        draft = _answer(client, "POST", base, json={})
        place = f"{base}/{draft['id']}"
        try:
            with archive.open("rb") as content:
                bucket = _same_origin(str(draft["links"]["bucket"]), base)
                _answer(client, "PUT", f"{bucket}/{bundle.resolve().name}.zip", content=content)
            done = _answer(client, "PUT", place, json=dict(metadata))
        except BaseException:
            _remove(client, place)
            raise
    return str(done["links"].get("html", place))


@contextmanager
def _zipped(bundle: Path) -> Iterator[Path]:
    """Yield a zip file of a bundle, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="gixi-deposit-") as folder:
        target = Path(folder) / "bundle.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(bundle.rglob("*")):
                archive.write(path, path.relative_to(bundle))
        yield target


def _answer(client: httpx.Client, method: str, address: str, **content: Any) -> dict[str, Any]:
    try:
        response = client.request(method, address, **content)
    except httpx.HTTPError as error:
        message = f"the repository {address} cannot be reached: {error}; nothing was deposited"
        raise StoreError(message) from error
    if response.is_error:
        message = f"the repository refused {method} {address}: {response.status_code}"
        raise StoreError(f"{message} {response.text[:300]}; nothing was deposited")
    return dict(response.json())


def _same_origin(address: str, base: str) -> str:
    """Return an address of the answer. Raises StoreError when the token would go elsewhere."""
    named, asked = httpx.URL(address), httpx.URL(base)
    if (named.scheme, named.host, named.port) != (asked.scheme, asked.host, asked.port):
        message = f"the repository names {address}, another server; the token is not sent there"
        raise StoreError(message)
    return address


def _remove(client: httpx.Client, place: str) -> None:
    try:
        client.delete(place)
    except httpx.HTTPError:
        return  # an incomplete draft is left, which only its owner sees

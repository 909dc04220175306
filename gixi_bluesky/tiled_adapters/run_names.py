"""Readable names of runs: sample or title and scan, and the first characters of the uid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gixi_bluesky.errors import StoreError

__all__ = ["LEAST_PREFIX", "one_with_prefix", "run_title", "sample_name"]

LEAST_PREFIX = 4  # characters
_SHOWN = 5


def sample_name(start: Mapping[str, Any]) -> str:
    """Return the name of the sample that a start document states, else its title, else empty."""
    sample = start.get("sample")
    name = sample.get("name") if isinstance(sample, Mapping) else sample
    return str(start.get("sample_name") or name or start.get("title") or "")


def run_title(start: Mapping[str, Any]) -> str:
    """Return "SAMPLE, scan NUMBER" with what is known; of a run without both, its uid."""
    scan = start.get("scan_id", start.get("gixi", {}).get("raw_scan_id"))
    words = [sample_name(start), "" if scan is None else f"scan {scan}"]
    return ", ".join(word for word in words if word) or str(start.get("uid", ""))


def one_with_prefix(uids: Iterable[str], prefix: str) -> str | None:
    """Return the only uid that begins with `prefix`, None if none does.

    Raises StoreError when several do.
    """
    found = sorted({uid for uid in uids if uid.startswith(prefix)})
    if len(found) > 1:
        named = ", ".join(found[:_SHOWN])
        message = f"{prefix!r} is the beginning of {len(found)} uids ({named}); give more of it"
        raise StoreError(message)
    return found[0] if found else None

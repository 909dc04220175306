"""The result of testing one part of a set-up."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of testing one part; `detail` says how to fix it when it is not ok.

    warnings: what is doubtful, one sentence each
    """

    part: str
    ok: bool
    detail: str
    warnings: tuple[str, ...] = ()

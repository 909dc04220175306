"""File names of a sequence, from the templates that documents carry."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["file_name"]

# Formatting codes of file names; anything richer could fill the memory or reach attributes.
_PERCENT_CODE = re.compile(r"%(%|s|[-+ 0]*\d{0,2}(?:\.\d{1,2})?d)")
_BRACE_CODE = re.compile(r"\{(filename|0?(?::[+ 0<>-]*\d{0,2}d?)?)\}")


def file_name(template: str, filename: str, number: int) -> str:
    """Fill an old (%s%s_%06d.tif) or new ({:06d}.tif) template; the folder takes no place.

    Raises ValueError for a template with more than plain numbers.
    """
    if _PERCENT_CODE.search(template) and "{" not in template:
        _require_plain(_PERCENT_CODE.sub("", template), "%", template)
        names = iter((filename,))
        return _PERCENT_CODE.sub(lambda code: _percent(code, names, number), template)
    _require_plain(_BRACE_CODE.sub("", template), "{}%", template)
    return _BRACE_CODE.sub(
        lambda code: filename if code[1] == "filename" else code[0].format(number), template
    )


def _percent(code: re.Match[str], names: Any, number: int) -> str:
    if code[1] == "%":
        return "%"
    return next(names, "") if code[1] == "s" else code[0] % number


def _require_plain(rest: str, forbidden: str, template: str) -> None:
    if any(sign in rest for sign in forbidden):
        message = f"the file name template {template[:80]!r} holds more than plain numbers"
        raise ValueError(message)

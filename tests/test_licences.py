"""Everything that a user installs with the package has a permissive licence."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

_PROJECT = tomllib.loads(
    (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
)["project"]
_PERMISSIVE = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|Zlib|CC0|Unlicense|BSL-1\.0"
)
_COPYLEFT = re.compile(r"[AL]?GPL|GNU|SSPL|BUSL|EUPL|CeCILL|Commons Clause|Proprietary", re.I)
# What licence files say that name no licence.
_WORDS = {
    "Permission is hereby granted, free of charge": "MIT",
    "Redistribution and use in source and binary forms": "BSD",
    "Apache License": "Apache",
    "free and unencumbered software": "Unlicense",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def runtime() -> dict[str, metadata.Distribution]:
    """Return what users install: the dependencies and all extras but `dev`, with theirs."""
    extras = _PROJECT["optional-dependencies"]
    declared = [*_PROJECT["dependencies"]]
    declared += [need for name, needs in extras.items() if name != "dev" for need in needs]
    waiting = [Requirement(need) for need in declared]
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    while waiting:
        need = waiting.pop()
        for extra in need.extras or {""}:
            if (normal(need.name), extra) in seen:
                continue
            seen.add((normal(need.name), extra))
            try:
                distribution = metadata.distribution(need.name)
            except metadata.PackageNotFoundError:
                continue  # of another platform, or an extra that is not installed here
            found[normal(need.name)] = distribution
            for text in distribution.requires or ():
                inner = Requirement(text)
                if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                    waiting.append(inner)
    found.pop(normal(_PROJECT["name"]), None)
    return found


runtime_found = runtime()


def licence(distribution: metadata.Distribution) -> str:
    """Return the licence as the package states it, else by the words of its licence file."""
    reported = distribution.metadata
    classifiers = [one for one in reported.get_all("Classifier") or () if one.startswith("License")]
    first_line = (reported.get("License") or "").partition("\n")[0]
    stated = reported.get("License-Expression") or " ".join((*classifiers, first_line))
    if _PERMISSIVE.search(stated) or _COPYLEFT.search(stated):
        return stated
    for file in distribution.files or ():
        if "licen" in file.name.lower():
            text = file.read_text()
            return next((name for words, name in _WORDS.items() if words in text), stated)
    return stated


@pytest.mark.parametrize("name", sorted(runtime_found))
def test_a_runtime_dependency_is_permissive(name: str) -> None:
    stated = licence(runtime_found[name])
    assert not _COPYLEFT.search(stated), f"{name}: {stated}"
    assert _PERMISSIVE.search(stated), f"{name} states no known licence: {stated!r}"


def test_the_closure_is_whole() -> None:
    assert {"torch", "tiled", "numpy", "starlette", "msgpack"} <= runtime_found.keys()


@pytest.mark.parametrize("stated", ["GPL-3.0-only", "LGPL-2.1", "GNU AGPL v3", "SSPL-1.0"])
def test_copyleft_is_recognised(stated: str) -> None:
    assert _COPYLEFT.search(stated)

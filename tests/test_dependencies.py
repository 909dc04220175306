"""Every package that the source imports is declared, and every pin fits the oldest Python."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _names(requirements: list[str]) -> set[str]:
    return {
        re.split(r"[\[><=;!~ ]", requirement)[0].lower().replace("_", "-")
        for requirement in requirements
    }


DECLARED = _names(PROJECT["dependencies"]).union(
    *(_names(extra) for extra in PROJECT["optional-dependencies"].values())
)


def imported(path: Path) -> set[str]:
    """Return the top-level packages that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    # Benchmarks use each other and helpers of the tests.
    ours = {file.stem for name in ("tests", "benchmarks") for file in (ROOT / name).rglob("*.py")}
    return found - set(sys.stdlib_module_names) - ours - {"gixi_bluesky"}


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["gixi_bluesky", "benchmarks", "examples"])
def test_every_imported_package_is_declared(folder):
    distributions = metadata.packages_distributions()
    undeclared = {
        package: str(path.relative_to(ROOT))
        for path in sorted((ROOT / folder).rglob("*.py"))
        for package in imported(path)
        if not DECLARED.intersection(
            name.lower().replace("_", "-") for name in distributions.get(package, [package])
        )
    }
    assert undeclared == {}


def test_the_pins_support_the_oldest_python():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    installed = {canonicalize_name(one.name): one for one in metadata.distributions() if one.name}
    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    pinned = {
        name: one.metadata.get("Requires-Python")
        for name, version in pins.items()
        if (one := installed.get(canonicalize_name(name))) is not None and one.version == version
    }
    assert len(pinned) > len(pins) // 2
    too_new = {
        name: needs for name, needs in pinned.items() if needs and oldest not in SpecifierSet(needs)
    }
    assert too_new == {}


def test_the_hashes_are_those_of_the_pins():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    expected = {line for line in pins if "==" in line and not line.startswith("torch==")}
    entries = (ROOT / "hashes.txt").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    hashed = dict(line.split(maxsplit=1) for line in entries if not line.startswith("#"))
    assert {canonical(pin) for pin in hashed} == {canonical(pin) for pin in expected}
    assert all("--hash=sha256:" in hashes for hashes in hashed.values())


def canonical(pin: str) -> str:
    name, _, version = pin.partition("==")
    return f"{canonicalize_name(name)}=={version}"

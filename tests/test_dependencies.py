"""Every package that the source imports is declared in pyproject.toml."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

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

"""A name stands for one thing: no two modules of a package and no two public classes share one."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import gixi_bluesky

ROOT = Path(gixi_bluesky.__file__).parent
# Settings lie beside what they set, in every room.
EVERYWHERE = {"__init__", "settings"}


def test_no_two_modules_of_a_package_have_one_name() -> None:
    places = defaultdict(list)
    for path in ROOT.rglob("*.py"):
        package, *_ = path.relative_to(ROOT).parts
        if path.stem not in EVERYWHERE:
            places[package, path.stem].append(path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_no_two_public_classes_have_one_name() -> None:
    places = defaultdict(list)
    for path in ROOT.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}

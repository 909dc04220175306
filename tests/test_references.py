"""Paths, links and dotted names in documentation, messages and comments lead to something."""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gixi_bluesky"
SUFFIXES = {".md", ".py", ".toml", ".yaml", ".yml", ".json"}

DOTTED = re.compile(r"\bgixi_bluesky(?:[.:](?!__)\w+)+")
NOT_MODULES = {"gixi_bluesky.steps"}  # a group of entry points
FOLDERS = (
    "benchmarks|callbacks|docs|examples|gixi_bluesky|processes|processing|tests|tiled_adapters"
)
PATH = re.compile(rf"(?<![\w./\-])(?:{FOLDERS})(?:/[\w.\-]+)*/[\w\-]+\.(?:md|py|toml|ya?ml)\b")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
FILE = re.compile(r"`([\w\-]+\.py)`")
FILES_OF_USERS = {"brightest.py", "re.py"}


@cache
def texts() -> dict[Path, str]:
    """Return the texts of the repository but the changelog, which keeps its old names."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in names.splitlines() if name != "CHANGELOG.md"]
    chosen = [path for path in paths if path.suffix in SUFFIXES and path.is_file()]
    return {path: path.read_text(encoding="utf-8") for path in chosen}


def is_defined(name: str) -> bool:
    """Return whether a dotted name is a module, or a word in the module that it begins with."""
    place, parts = PACKAGE, re.split("[.:]", name)[1:]
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    module = place / "__init__.py"
    if parts and (place / f"{parts[0]}.py").is_file():
        module = place / f"{parts.pop(0)}.py"
    return not parts or (
        module.is_file() and re.search(rf"\b{parts[0]}\b", module.read_text("utf-8")) is not None
    )


def stale(text: str, path: Path) -> Iterator[str]:
    yield from (n for n in DOTTED.findall(text) if n not in NOT_MODULES and not is_defined(n))
    for name in PATH.findall(text):
        if not (ROOT / name).exists() and not (PACKAGE / name).exists():
            yield name
    if path.suffix == ".md":
        yield from (link for link in LINK.findall(text) if not (path.parent / link).exists())
        files = {path.name for path in texts()} | FILES_OF_USERS
        yield from (name for name in FILE.findall(text) if name not in files)


def test_references_lead_to_something():
    found = {
        str(path.relative_to(ROOT)): names
        for path, text in texts().items()
        if path != Path(__file__) and (names := sorted(set(stale(text, path))))
    }
    assert not found


def test_stale_references_are_found():
    module = "gixi_bluesky" + ".processing"
    text = f"`{module}.gone`, {module}.pipeline:Pipeline, `tests/gone.py` and [this](gone.md)"
    assert list(stale(text, ROOT / "page.md")) == [f"{module}.gone", "tests/gone.py", "gone.md"]


def test_the_index_lists_every_decision_by_its_title():
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (\d+) \| \[(.+)\]\((.+)\) \|", index, re.MULTILINE)
    titles = {
        path.name: path.read_text(encoding="utf-8").splitlines()[0]
        for path in folder.glob("[0-9]*.md")
    }
    assert {file: f"# {number}. {title}" for number, title, file in listed} == titles

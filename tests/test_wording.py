"""The code and the documentation keep to plain technical English, and modules stay short."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("gixi_bluesky", "benchmarks", "examples", "docs")
MOST_LINES = 400

# CONTRIBUTING.md: subject, verb, object; no persons where there are programs.
AVOIDED = re.compile(r"\b(?:told|tell|tells|telling|nobody|whoever|mends?|mended|in vain)\b", re.I)
# A summary says what a module is, or what a function returns or does.
QUESTION = re.compile(r'^ *"""(?:What|Where|How|Which|Who|Whether|Says?|Have) .*', re.M)


def files(*suffixes: str) -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in suffixes and "static" not in path.parts:
                yield path


def test_words_that_personify_or_puzzle_are_avoided():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files(".py", ".md")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if AVOIDED.search(line)
    ]
    assert not found


def test_summaries_are_no_questions():
    found = {
        str(path.relative_to(ROOT)): summaries
        for path in files(".py")
        if (summaries := QUESTION.findall(path.read_text(encoding="utf-8")))
    }
    assert not found


def test_modules_stay_short():
    lengths = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n")
        for path in files(".py")
    }
    assert {path: n for path, n in lengths.items() if n > MOST_LINES} == {}

"""Sphinx configuration: the pages of this folder, and the API from the docstrings."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gixi_bluesky import __version__  # noqa: E402
from gixi_bluesky.config import Config  # noqa: E402

project = "gixi_bluesky"
author = "gixi_bluesky contributors"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
# Links of the pages that lead to files of the repository, not to pages.
suppress_warnings = ["myst.xref_missing"]
html_theme = "pydata_sphinx_theme"
html_title = "gixi_bluesky"
html_show_sourcelink = False

# The configuration's JSON Schema, as a page and as a file that editors can use.
schema = json.dumps(Config.model_json_schema(), indent=2)
static = Path(__file__).with_name("_static")
static.mkdir(exist_ok=True)
(static / "config.schema.json").write_text(schema, encoding="utf-8")
html_static_path = ["_static"]

_FIELD = re.compile(r"^[A-Za-z_][\w, ]{0,60}: \S")


def as_markup(*event: object) -> None:
    """Turn a plain docstring into reStructuredText: its `name: meaning` lines become a list."""
    lines = event[-1]
    assert isinstance(lines, list)
    text = "\n".join(lines).replace("|", "\\|").replace("*", "\\*")
    marked: list[str] = []
    for paragraph in text.split("\n\n"):
        rows = [row for row in paragraph.split("\n") if row.strip()]
        if rows and _FIELD.match(rows[0]):
            marked += [f"- {row}" if _FIELD.match(row) else f"  {row.strip()}" for row in rows]
        elif any(row.startswith("    ") for row in rows):
            marked += ["::", "", *(f"    {row}" for row in rows)]
        else:
            marked += [row.strip() for row in rows]
        marked.append("")
    lines[:] = marked


def setup(app: Sphinx) -> None:
    """Register the conversion of docstrings."""
    app.connect("autodoc-process-docstring", as_markup)

"""Cuts as text files of three columns, as pyFAI writes its curves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gixi_bluesky.processing.types import Cut

__all__ = ["cut_text", "write_cut"]

# pyFAI's names of units, which programs that read its files know.
_UNITS = {
    "q": "q_A^-1",
    "phi": "phi_deg",
    "q_xy": "qip_A^-1",
    "q_z": "qoop_A^-1",
}


def cut_text(cut: Cut, notes: Mapping[str, object] | None = None, name: str = "") -> str:
    """Return a cut as text: lines of `#`, then axis, intensity and sigma of each bin with data.

    notes: what else the header says, a line each; name: of the file, as pyFAI's header has it
    """
    header = [
        "== gixi_bluesky cut ==",
        *(f"{key}: {value}" for key, value in (notes or {}).items()),
    ]
    header += [f"--> {name}", f"{_UNITS[cut.along]:>13s}{'I':>16s}{'sigma':>16s}"]
    seen = np.isfinite(cut.intensity)
    columns = np.stack([cut.axis, cut.intensity, cut.error], axis=1)[seen]
    lines = [f"# {line}" for line in header]
    lines += [f"{x:14.6e}  {i:14.6e}  {sigma:14.6e}" for x, i, sigma in columns]
    return "\n".join(lines) + "\n"


def write_cut(path: str | Path, cut: Cut, notes: Mapping[str, object] | None = None) -> Path:
    """Write a cut as a text file, replacing it atomically. Raises OSError where it cannot be."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(cut_text(cut, notes, path.name), encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path

"""Powder lines that took long to calculate, stored on disk for later processes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from gixi_bluesky.processing.disk_cache import DiskCache
from gixi_bluesky.processing.structures import cif_text, crystals, reflections, sites, symmetry
from gixi_bluesky.processing.structures.reflections import Lines

__all__ = ["stored_lines"]

_CACHE_BYTES = 64 << 20
_SLOW_S = 0.5
_ARRAYS = ("q", "hkl", "intensity", "multiplicity")


def stored_lines(key: tuple[object, ...], calculate: Callable[[], Lines]) -> Lines:
    """Return the lines of a key from disk, else calculate them, and store them if that was slow.

    key: what decides the lines, besides the code
    """
    stored = DiskCache("lines", _CACHE_BYTES)
    name = f"{_code()} {key!r}"
    content = stored.get(name)
    if content is not None and (lines := _read(content)) is not None:
        return lines
    began = time.perf_counter()
    lines = calculate()
    if time.perf_counter() - began > _SLOW_S:
        stored.put(name, _written(lines))
    return lines


def _written(lines: Lines) -> bytes:
    arrays = {name: np.ascontiguousarray(getattr(lines, name)) for name in _ARRAYS}
    arrays["members"] = np.array([len(line) for line in lines.families], np.int64)
    families = [family for line in lines.families for family in line]
    arrays["families"] = np.array(families, np.int64).reshape(-1, 3)
    return safetensors.numpy.save(arrays)


def _read(content: bytes) -> Lines | None:
    try:
        arrays = safetensors.numpy.load(content)
    except SafetensorError:
        return None
    families = iter([(int(hkl[0]), int(hkl[1]), int(hkl[2])) for hkl in arrays["families"]])
    return Lines(
        **{name: arrays[name] for name in _ARRAYS},
        families=tuple(tuple(next(families) for _ in range(n)) for n in arrays["members"]),
    )


@cache
def _code() -> str:
    """Return the digest of the code that decides the lines."""
    digest = hashlib.sha256(f"{np.__version__} {version('gemmi')}".encode())
    for module in (cif_text, crystals, reflections, sites, symmetry):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()

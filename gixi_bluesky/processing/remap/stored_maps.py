"""Maps stored on disk by a digest of their inputs, so that later processes reuse them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError
from scipy import sparse

from gixi_bluesky.processing.disk_cache import DiskCache
from gixi_bluesky.processing.geometry import grids, instrument
from gixi_bluesky.processing.remap import cells, footprint
from gixi_bluesky.processing.remap.footprint import Footprint

__all__ = ["StoredMaps"]

_CACHE_BYTES = 512 << 20  # a dozen geometries of the default grid
_MAPS = ("places", "weight", "full_weight", "unit_variance", "scale")
_MATRICES = ("pixels", "blocks")
_SEPARATOR = b"\0"


class StoredMaps:
    """The maps of one geometry, grid, mask and correction, if they were built before.

    parts: what decides the maps, as text; valid: (rows, columns) which pixels are used
    Maps built by another version of the code are not used.
    """

    def __init__(self, parts: tuple[object, ...], valid: NDArray[np.bool_]) -> None:
        digest = hashlib.sha256(_code())
        for part in (*parts, valid.shape):
            digest.update(repr(part).encode() + _SEPARATOR)
        digest.update(np.packbits(valid).tobytes())
        self._key = digest.hexdigest()
        self._cache = DiskCache("maps", _CACHE_BYTES)

    def load(self) -> Footprint | None:
        """Return the maps, None if there are none or they cannot be read."""
        content = self._cache.get(self._key)
        if content is None:
            return None
        try:
            arrays = safetensors.numpy.load(content)
        except SafetensorError:
            return None
        first, last, columns = (int(n) for n in arrays["window"])
        return Footprint(
            window=slice(first, last),
            shape=(last - first, columns),
            pixels=_matrix(arrays, "pixels"),
            blocks=_matrix(arrays, "blocks"),
            places=arrays["places"],
            weight=arrays["weight"],
            full_weight=arrays["full_weight"],
            unit_variance=arrays["unit_variance"],
            scale=arrays["scale"],
        )

    def store(self, built: Footprint) -> None:
        """Keep maps for frames that lie in memory as their rows and columns do."""
        arrays = {name: getattr(built, name) for name in _MAPS}
        for name in _MATRICES:
            matrix: sparse.csr_array = getattr(built, name)
            arrays |= {f"{name}.{p}": getattr(matrix, p) for p in ("data", "indices", "indptr")}
            arrays[f"{name}.shape"] = np.array(matrix.shape)
        arrays["window"] = np.array([built.window.start, built.window.stop, built.shape[1]])
        self._cache.put(self._key, safetensors.numpy.save(arrays))


def _matrix(arrays: Mapping[str, NDArray[Any]], name: str) -> sparse.csr_array:
    parts = tuple(arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr"))
    rows, columns = (int(n) for n in arrays[f"{name}.shape"])
    return sparse.csr_array(parts, shape=(rows, columns))


@cache
def _code() -> bytes:
    """Return the digest of the code that decides the maps."""
    digest = hashlib.sha256(np.__version__.encode())
    for module in (grids, instrument, cells, footprint):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.digest()

"""The images of one stream uploaded to a server that cannot read the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tiled.client.utils import ClientError
from tiled.structures.array import ArrayStructure, BuiltinDtype
from tiled.structures.core import StructureFamily
from tiled.structures.data_source import DataSource

from gixi_bluesky.tiled_adapters.store.claims import store_errors

__all__ = ["UploadedImages"]

_CONFLICT = 409


class UploadedImages:
    """An array that the server keeps; row k is image k of the run, NaN where there is none.

    Writing a row again is harmless.
    """

    def __init__(self, stream_node: Any, key: str, data_key: Mapping[str, Any], tags: Any) -> None:
        self._parent = stream_node
        self._key = key
        self._dtype = np.dtype(data_key["dtype_numpy"])
        self._shape = tuple(data_key["shape"])
        self._dims = ("time", *data_key["dims"]) if "dims" in data_key else None
        self._tags = tags
        self._node: Any = None
        self._rows = 0

    def write(self, seq_nums: Sequence[int], images: Sequence[Any]) -> None:
        """Store consecutive images, the first in row seq_num - 1, in one request."""
        first = seq_nums[0] - 1
        stack = np.asarray(images, dtype=self._dtype).reshape(-1, *self._shape)
        if self._node is None:
            self._node = self._found_or_made()
            self._rows = self._node.shape[0]
        if (gap := first - self._rows) > 0:
            missing = np.full((gap, *self._shape), np.nan, dtype=self._dtype)
            stack, first = np.concatenate([missing, stack]), self._rows
        self._node.patch(stack, offset=self._at(first), extend=True)
        self._rows = max(self._rows, first + len(stack))

    def _at(self, row: int) -> tuple[int, ...]:
        return (row, *(0 for _ in self._shape))

    def close(self) -> None:
        """Notify subscribers that no images will follow."""
        if self._node is not None:
            with store_errors("closing the images"):
                self._node.close_stream()

    def _found_or_made(self) -> Any:
        """Return the array; made with one row, which is empty until it is written."""
        if self._key in self._parent:
            return self._parent[self._key]
        structure = ArrayStructure(
            data_type=BuiltinDtype.from_numpy_dtype(self._dtype),
            shape=(1, *self._shape),
            chunks=((1,), *((length,) for length in self._shape)),
            dims=self._dims,
        )
        source = DataSource(structure=structure, structure_family=StructureFamily.array)
        try:
            node = self._parent.new(
                StructureFamily.array, [source], key=self._key, access_tags=self._tags
            )
        except ClientError as error:
            if error.response.status_code != _CONFLICT:
                raise
            return self._parent[self._key]
        node.patch(np.full((1, *self._shape), np.nan, self._dtype), offset=self._at(0))
        return node

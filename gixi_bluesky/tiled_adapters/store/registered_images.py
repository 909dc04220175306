"""The images of one stream on the server: HDF5 files registered in place, not uploaded."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from tiled.client.utils import handle_error
from tiled.structures.array import ArrayStructure, BuiltinDtype
from tiled.structures.core import StructureFamily
from tiled.structures.data_source import Asset, DataSource, Management
from tiled.utils import path_from_uri, safe_json_dump

from gixi_bluesky.tiled_adapters.files.requests import Finished
from gixi_bluesky.tiled_adapters.store.claims import store_errors

__all__ = ["StoredImages", "serves_images"]


_BLOCK_BYTES = 1 << 20


class StoredImages:
    """The external arrays of one stream; row k of an array is image k of the run.

    Every file, a part or the finished one, holds all images from the first on, so that the newest
    file alone is registered.
    """

    def __init__(self, stream_node: Any, data_keys: Mapping[str, Any], tags: Any) -> None:
        self._parent = stream_node
        self._data_keys = data_keys
        self._tags = tags
        self._nodes: dict[str, Any] = {}
        self._uris: dict[str, str] = {}
        self._rows: dict[str, int] = {}

    def describe(self, data_keys: Mapping[str, Any]) -> None:
        """Take data_keys that an earlier writer session did not have."""
        self._data_keys = {**self._data_keys, **data_keys}

    def extend(self, resource: Mapping[str, Any], rows: int) -> None:
        """Set the length of the array of this stream_resource to `rows` images, in one request."""
        key = resource["data_key"]
        if self._uris.get(key) == resource["uri"]:
            before = self._rows[key]
            if rows > before:
                self._update(key, resource, before, rows)
        else:
            self._register(key, resource, rows)
        self._uris[key] = resource["uri"]
        self._rows[key] = max(rows, self._rows.get(key, 0))

    def close(self) -> None:
        """Notify subscribers that no images will follow."""
        with store_errors("closing the images"):
            for node in self._nodes.values():
                node.close_stream()

    def _register(self, key: str, resource: Mapping[str, Any], rows: int) -> None:
        if key in self._parent:
            rows = max(rows, self._parent[key].shape[0])
            self._parent.delete_contents([key])
        self._nodes[key] = self._parent.new(
            StructureFamily.array,
            [self._data_source(key, resource, rows)],
            key=key,
            access_tags=self._tags,
        )
        self._rows[key] = rows

    def _update(self, key: str, resource: Mapping[str, Any], before: int, rows: int) -> None:
        node = self._nodes[key]
        source = self._data_source(key, resource, rows)
        source.id = node.data_sources()[0].id
        image = self._data_keys[key]["shape"]
        handle_error(
            node.context.http_client.put(
                node.uri.replace("/metadata/", "/data_source/", 1),
                content=safe_json_dump({"data_source": source}),
                params={
                    "patch_shape": ",".join(map(str, (rows - before, *image))),
                    "patch_offset": ",".join(map(str, (before, *(0 for _ in image)))),
                },
            )
        )

    def _data_source(self, key: str, resource: Mapping[str, Any], rows: int) -> DataSource:
        data_key = self._data_keys[key]
        image = tuple(data_key["shape"])
        parameters = resource["parameters"]
        return DataSource(
            mimetype=resource["mimetype"],
            assets=[
                Asset(data_uri=resource["uri"], is_directory=False, parameter="data_uris", num=0)
            ],
            structure_family=StructureFamily.array,
            structure=ArrayStructure(
                data_type=BuiltinDtype.from_numpy_dtype(np.dtype(data_key["dtype_numpy"])),
                shape=(rows, *image),
                chunks=(_blocks(rows, image), *((length,) for length in image)),
                dims=("time", *data_key["dims"]) if "dims" in data_key else None,
            ),
            parameters={
                "dataset": parameters["dataset"],
                "swmr": parameters.get("swmr", True),
                "locking": None,
            },
            management=Management.external,
        )


def _blocks(rows: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return how many rows a client reads at once: images one by one, of curves about 1 MiB."""
    at_once = 1 if len(shape) > 1 else max(_BLOCK_BYTES // (4 * shape[0]), 1)
    whole, rest = divmod(rows, at_once)
    return (at_once,) * whole + ((rest,) if rest else ())


def serves_images(client: Any, uid: str, finished: Finished) -> bool:
    """Return True when the server reads the arrays of a run from its finished file, and can.

    client: of the catalogue. Raises StoreError, KeyError.
    """
    sample = finished.sample
    if sample is None:
        return False
    keys = {
        (sample.stream, sample.key),
        *((one.array.stream, one.array.key) for one in finished.arrays),
    }
    with store_errors("reading an image back"):
        run = client.include_data_sources()[uid]
        for stream, key in sorted(keys):
            assets = [a for one in run[stream].base[key].data_sources() for a in one.assets]
            if [path_from_uri(asset.data_uri) for asset in assets] != [finished.path]:
                return False
        node = run[sample.stream].base[sample.key]
        # Not through the client, which would retry a refusal for most of a minute.
        answer = node.context.http_client.get(
            node.item["links"]["full"],
            params={"slice": f"{sample.row}"},
            headers={"Accept": "application/octet-stream"},
        )
    return answer.is_success and zlib.crc32(answer.content) == sample.checksum

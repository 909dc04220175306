"""The Tiled adapter of result files: mimetype application/x-gixi-hdf5.

For files that hold no run of their own, as `process --out` and `export --nexus` make them. Another
server loads the adapter by its configuration:

    catalog:
      adapters_by_mimetype:
        application/x-gixi-hdf5: gixi_bluesky.tiled_adapters.result_files:ResultFileAdapter

It also registers the fast queries (`server.plugin`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
from tiled.adapters.hdf5 import HDF5ArrayAdapter
from tiled.adapters.mapping import MapAdapter
from tiled.adapters.table import TableAdapter
from tiled.structures.core import Spec
from tiled.utils import path_from_uri

import gixi_bluesky.tiled_adapters.server.plugin  # noqa: F401 - it registers our queries
from gixi_bluesky.errors import RefusedPathError, StoreError
from gixi_bluesky.tiled_adapters.files.result_reading import (
    open_result,
    read_table,
    result_metadata,
)
from gixi_bluesky.tiled_adapters.schema import (
    IMAGE_DATASET,
    IMAGE_KEY,
    RESULT_SPEC,
    STREAMS,
)

__all__ = ["ResultFileAdapter"]

_AXES = ("q", "phi", "frame")


class ResultFileAdapter(MapAdapter):
    """One result file: the arrays `polar_image`, `q`, `phi` and `frame`, and a table a stream.

    Its metadata: configuration, provenance and, of a run, the start document. The arrays are read
    from the file at each request, the tables at once.
    """

    @classmethod
    def from_catalog(cls, data_source: Any, node: Any, /, **_: Any) -> ResultFileAdapter:
        """Open the file of a registered node."""
        uri = data_source.assets[0].data_uri
        return cls.from_uris(uri, metadata=node.metadata_, specs=node.specs)

    @classmethod
    def from_uris(
        cls, data_uri: str, metadata: Any = None, specs: Any = None, **_: Any
    ) -> ResultFileAdapter:
        """Open the file at a `file://` URI.

        Raises OSError when it is no HDF5 file, KeyError when it is no result file, StoreError when
        it leads to files that are not its own.
        """
        path = path_from_uri(data_uri)
        if ".." in path.parts:
            message = f"{data_uri} goes up a folder; register the file by its plain path"
            raise StoreError(message)
        arrays = {name: f"/entry/polar/{name}" for name in _AXES} | {IMAGE_KEY: IMAGE_DATASET}
        with _opened(path) as file:
            swmr = file.swmr_mode
            streams = [stream for stream in STREAMS if stream in file["entry"]]
            tables = {
                stream: TableAdapter.from_pandas(read_table(file["entry"], stream))
                for stream in streams
            }
            made_by = metadata or result_metadata(file)
        return cls(
            {
                **{
                    name: HDF5ArrayAdapter.from_uris(data_uri, dataset=dataset, swmr=swmr)
                    for name, dataset in arrays.items()
                },
                **tables,
            },
            metadata=made_by,
            specs=specs or [Spec(RESULT_SPEC)],
        )


def _opened(path: Path) -> h5py.File:
    """Open a result file that links to no other file, as clients may have fewer rights."""
    try:
        return open_result(path)
    except RefusedPathError as error:
        raise StoreError(str(error)) from error

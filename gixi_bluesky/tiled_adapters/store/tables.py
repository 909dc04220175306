"""The table of one stream on the server: one append a page, counted so that no row is doubled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from gixi_bluesky.errors import DocumentError, StoreError
from gixi_bluesky.tiled_adapters.schema import table_keys
from gixi_bluesky.tiled_adapters.store.claims import store_errors

__all__ = ["StoredTable", "arrow_schema"]

INTERNAL = "internal"


def arrow_schema(data_keys: Mapping[str, Mapping[str, Any]]) -> pa.Schema:
    """Return the columns of a stream's table as bluesky-tiled-plugins lays them out.

    Fixed by the descriptor and not by the first rows, so that all runs share one SQL table.
    """
    fields = [pa.field("seq_num", pa.int64()), pa.field("time", pa.float64())]
    fields += [pa.field(name, _arrow_type(name, key)) for name, key in data_keys.items()]
    fields += [pa.field(f"ts_{name}", pa.float64()) for name in data_keys]
    return pa.schema(fields)


class StoredTable:
    """The `internal` table of one stream; `rows` is how many rows the server holds."""

    def __init__(
        self, stream_node: Any, name: str, data_keys: Mapping[str, Any], tags: Any
    ) -> None:
        self.name = name
        self.schema = arrow_schema(data_keys)
        self._parent = stream_node
        self._metadata = {key: dict(value) for key, value in data_keys.items()}
        self._tags = tags
        self._client: Any = None
        self._rows: int | None = None

    @property
    def rows(self) -> int:
        """Number of rows on the server; counted again after an append without an answer."""
        if self._rows is None:
            with store_errors(f"counting the rows of {self.name}"):
                self._rows = len(self._table().read(["seq_num"]))
        return self._rows

    def create(self) -> None:
        """Create the table if it does not exist."""
        with store_errors(f"creating {self.name}"):
            self._table()

    def append(self, page: Mapping[str, Any]) -> None:
        """Append the rows of an event page that are not there yet, in one request.

        Raises DocumentError when rows are missing before this page, StoreError when Tiled fails.
        """
        seq_nums = np.asarray(page["seq_num"], dtype=np.int64)
        new = seq_nums > self.rows
        if not new.any():
            return
        if seq_nums[new][0] != self.rows + 1 or (np.diff(seq_nums) != 1).any():
            message = (
                f"the page of {self.name} begins with seq_num {seq_nums[new][0]}; "
                f"expected consecutive rows from {self.rows + 1} on"
            )
            raise DocumentError(message)
        self._send(_page_table(page, self.schema).filter(pa.array(new)))

    def read(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the stored rows, only `columns` if given."""
        with store_errors(f"reading {self.name}"):
            return self._table().read(list(columns) if columns is not None else None)

    def unsettled(self, committed: NDArray[np.int64]) -> bool:
        """Return whether rows are doubled, uncommitted or misnumbered."""
        keys = [key for key in table_keys(self.name) if key in self.schema.names]
        rows = self.read(["seq_num", *keys])
        self._rows = len(rows)
        return len(self._settled(rows, committed)) < len(rows) or not np.array_equal(
            rows["seq_num"], np.arange(1, len(rows) + 1)
        )

    def settled(self, committed: NDArray[np.int64]) -> pd.DataFrame:
        """Return the rows to keep: committed, each once, numbered from 1."""
        rows = self._settled(self.read(), committed)
        rows["seq_num"] = np.arange(1, len(rows) + 1)
        return rows

    def clear(self) -> None:
        """Remove all rows."""
        with store_errors(f"clearing {self.name}"):
            self._parent.delete_contents([INTERNAL], recursive=True, external_only=False)
            self._client = None
            self._client = self._new()
        self._rows = 0

    def replace(self, rows: pd.DataFrame) -> None:
        """Make `rows` the whole table; SQL tables of Tiled know no other way to delete a row."""
        if self.rows:
            self.clear()
        if len(rows):
            self._send(pa.Table.from_pandas(rows, schema=self.schema, preserve_index=False))

    def close(self) -> None:
        """Notify subscribers that no rows will follow."""
        with store_errors(f"closing {self.name}"):
            self._table().close_stream()

    def _settled(self, rows: pd.DataFrame, committed: NDArray[np.int64]) -> pd.DataFrame:
        if "frame" in rows:
            rows = rows[rows["frame"].isin(committed)]
        keys = [key for key in table_keys(self.name) if key in rows]
        return (rows.drop_duplicates(keys) if keys else rows).reset_index(drop=True)

    def _table(self) -> Any:
        if self._client is None:
            try:
                self._client = self._parent[INTERNAL]
            except KeyError:
                self._client = self._new()
            else:
                # Its own order of columns: of the stream's metadata PostgreSQL forgets the order.
                self.schema = self._client.structure().arrow_schema_decoded
        return self._client

    def _new(self) -> Any:
        return self._parent.create_appendable_table(
            self.schema, key=INTERNAL, metadata=self._metadata, access_tags=self._tags
        )

    def _send(self, table: pa.Table) -> None:
        """Append rows. After an error the caller repeats the page, of which new rows are sent."""
        before = self.rows
        try:
            with store_errors(f"storing rows of {self.name}"):
                self._table().append_partition(0, table)
        except StoreError:
            # They may have been stored although the answer was lost: count before the next page.
            self._rows = None
            raise
        self._rows = before + len(table)


def _page_table(page: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    columns = {"seq_num": page["seq_num"], "time": page["time"], **page["data"]}
    columns |= {f"ts_{name}": stamps for name, stamps in page["timestamps"].items()}
    try:
        return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)
    except (KeyError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        message = f"an event page does not fit its descriptor: {error!r}"
        raise DocumentError(message) from error


def _arrow_type(name: str, key: Mapping[str, Any]) -> pa.DataType:
    if key.get("shape"):
        message = f"data key {name!r} has shape {key['shape']}; tables hold single values only"
        raise DocumentError(message)
    kinds = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "string": pa.string(),
        "boolean": pa.bool_(),
    }
    return kinds[key["dtype"]]

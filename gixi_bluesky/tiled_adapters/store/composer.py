"""The composer of a derived run's documents, for all code that writes or publishes them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

from event_model import DocumentNames, schema_validators

from gixi_bluesky.tiled_adapters.frame_arrays import (
    FrameArray,
    array_data_keys,
    axis_configuration,
)
from gixi_bluesky.tiled_adapters.schema import (
    IMAGE_KEY,
    IMAGES,
    PURPOSE,
    StreamTable,
    data_keys,
    image_data_keys,
    stored_values,
)

__all__ = ["Document", "RunComposer"]

_KEYS = {
    "event_page": DocumentNames.event_page,
    "descriptor": DocumentNames.descriptor,
    "start": DocumentNames.start,
    "stop": DocumentNames.stop,
    "stream_resource": DocumentNames.stream_resource,
    "stream_datum": DocumentNames.stream_datum,
}
_EXIT_STATUS = frozenset({"success", "abort", "fail"})

Document = tuple[str, dict[str, Any]]


class RunComposer:
    """Composes the documents of one derived run; rows become event pages with fixed columns.

    Every uid follows from the uid of the run, so that a replay, a second announcement and a
    registration from files compose equal documents. The first document of each kind and stream,
    of a page its first row, is checked against the schema of event-model; the others have the
    same shape, and checking every page would cost more than storing it.

    start: the start document of the run
    """

    def __init__(self, start: Mapping[str, Any]) -> None:
        self.start = dict(start)
        self.uid = str(start["uid"])
        self._namespace = UUID(self.uid)
        self._checked: set[tuple[str, str]] = set()

    def descriptor(self, table: StreamTable) -> dict[str, Any]:
        """Return the descriptor of a table."""
        return self._descriptor(table.name, data_keys(table))

    def image_descriptor(self, n_phi: int, n_q: int, *, external: bool = True) -> dict[str, Any]:
        """Return the descriptor of the stream of polar images, in files or in the event pages."""
        return self._descriptor(IMAGES, image_data_keys(n_phi, n_q, external=external))

    def array_descriptor(
        self,
        arrays: Sequence[FrameArray],
        polar: tuple[int, int] | None = None,
        *,
        external: bool = True,
    ) -> dict[str, Any]:
        """Return the descriptor of the stream of some arrays, all of one; their axes are in it.

        polar: the shape (n_phi, n_q) of polar images that stand in the same stream
        external: the arrays are in files; False = in the event pages
        """
        keys = {} if polar is None else image_data_keys(*polar, external=external)
        keys |= array_data_keys(arrays, external=external)
        configuration = {PURPOSE: axis_configuration(arrays, self.start["time"])}
        return self._descriptor(arrays[0].stream, keys, configuration)

    def image_page(self, first: int, images: Sequence[Any], time: float) -> dict[str, Any]:
        """Return consecutive images, the first in row `first`, as an event page that holds them."""
        return self.array_page(IMAGES, first, {IMAGE_KEY: images}, time)

    def array_page(
        self, stream: str, first: int, rows: Mapping[str, Sequence[Any]], time: float
    ) -> dict[str, Any]:
        """Return consecutive rows of arrays, by key, as an event page that holds them."""
        n = max(map(len, rows.values()))
        times = [time] * n
        seq_nums = list(range(first + 1, first + 1 + n))
        return {
            "descriptor": self._descriptor_uid(stream),
            "uid": [self._uid(f"{stream}/{number}") for number in seq_nums],
            "seq_num": seq_nums,
            "time": times,
            "data": {key: list(values) for key, values in rows.items()},
            "timestamps": dict.fromkeys(rows, times),
            "filled": {},
        }

    def page(
        self, table: StreamTable, columns: Mapping[str, Sequence[Any]], first: int, time: float
    ) -> dict[str, Any]:
        """Return rows of a table as an event page whose first seq_num is `first`.

        The uid of a row follows from its frame, so that it is the same however often it is made.
        """
        n, stream = len(columns["frame"]), table.name
        values = {c.name: stored_values(c, columns[c.name]) for c in table.columns}
        times = [time] * n
        page = {
            "descriptor": self._descriptor_uid(stream),
            "uid": [self._uid(f"{stream}/{row}") for row in _rows(columns["frame"])],
            "seq_num": list(range(first, first + n)),
            "time": times,
            "data": values,
            "timestamps": dict.fromkeys(values, times),
            "filled": {},
        }
        if n and ("event_page", stream) not in self._checked:
            # One row is enough; checking hundreds would delay the first results by a second.
            self._valid("event_page", stream, _first_row(page))
        return page

    def pages(
        self,
        table: StreamTable,
        columns: Mapping[str, Sequence[Any]],
        first: int,
        time: float,
        at_most: int,
    ) -> Iterator[dict[str, Any]]:
        """Yield rows of a table as event pages of about `at_most` rows that split no frame."""
        frames = columns["frame"]
        begin = 0
        while begin < len(frames):
            end = min(begin + at_most, len(frames))
            while end < len(frames) and frames[end] == frames[end - 1]:
                end += 1
            page = {name: values[begin:end] for name, values in columns.items()}
            yield self.page(table, page, first + begin, time)
            begin = end

    def image_resource(
        self, uri: str, dataset: str, chunk_shape: Sequence[int], *, swmr: bool = True
    ) -> dict[str, Any]:
        """Return the stream_resource of an HDF5 part, or of a finished file (`swmr` False)."""
        return self._resource(self._uid(uri), IMAGE_KEY, uri, dataset, chunk_shape, swmr=swmr)

    def array_resource(self, uri: str, array: FrameArray, *, swmr: bool = True) -> dict[str, Any]:
        """Return the stream_resource of another array in such a file."""
        uid = self._uid(f"{uri}#{array.stream}/{array.key}")
        return self._resource(uid, array.key, uri, array.dataset, (1, *array.shape), swmr=swmr)

    def image_datum(self, resource: str, start: int, stop: int) -> dict[str, Any]:
        """Return the stream_datum of image rows start…stop-1."""
        return self.array_datum(IMAGES, resource, start, stop)

    def array_datum(self, stream: str, resource: str, start: int, stop: int) -> dict[str, Any]:
        """Return the stream_datum of rows start…stop-1 of an array."""
        return self._valid(
            "stream_datum",
            stream,
            {
                "uid": f"{resource}/{start}-{stop}",
                "stream_resource": resource,
                "descriptor": self._descriptor_uid(stream),
                "indices": {"start": start, "stop": stop},
                "seq_nums": {"start": start + 1, "stop": stop + 1},
            },
        )

    def stop(
        self,
        time: float,
        exit_status: str,
        reason: str,
        rows: Mapping[str, int],
        summary: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return the stop document.

        exit_status: of the raw run; what event-model does not know becomes "fail"
        rows: how many rows each table has
        """
        stop = {
            "uid": self._uid("stop"),
            "run_start": self.uid,
            "time": time,
            "exit_status": exit_status if exit_status in _EXIT_STATUS else "fail",
            "reason": reason,
            "num_events": dict(rows),
            "gixi": dict(summary),
        }
        return self._valid("stop", "", stop)

    def _resource(
        self,
        uid: str,
        key: str,
        uri: str,
        dataset: str,
        chunk_shape: Sequence[int],
        *,
        swmr: bool,
    ) -> dict[str, Any]:
        parameters = {"dataset": dataset, "chunk_shape": list(chunk_shape), "swmr": swmr}
        resource = {
            "uid": uid,
            "run_start": self.uid,
            "data_key": key,
            "mimetype": "application/x-hdf5",
            "uri": uri,
            "parameters": parameters,
        }
        return self._valid("stream_resource", key, resource)

    def _descriptor(
        self,
        stream: str,
        keys: dict[str, dict[str, Any]],
        configuration: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        descriptor = {
            "uid": self._descriptor_uid(stream),
            "run_start": self.uid,
            "name": stream,
            "time": self.start["time"],
            "data_keys": keys,
            "object_keys": {PURPOSE: list(keys)},
            "configuration": dict(configuration or {}),
            "hints": {},
        }
        return self._valid("descriptor", stream, descriptor)

    def _descriptor_uid(self, stream: str) -> str:
        return self._uid(f"descriptor/{stream}")

    def _uid(self, name: str) -> str:
        return str(uuid5(self._namespace, name))

    def _valid(self, kind: str, stream: str, doc: dict[str, Any]) -> dict[str, Any]:
        if (kind, stream) not in self._checked:
            schema_validators[_KEYS[kind]].validate(doc)
            self._checked.add((kind, stream))
        return doc


def _rows(frames: Sequence[int]) -> Iterator[str]:
    """Yield frame/row for the rows of each frame, which stand together."""
    for frame, rows in itertools.groupby(frames):
        for row, _ in enumerate(rows):
            yield f"{frame}/{row}"


def _first_row(page: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event page of the first row alone."""
    columns = {
        part: {name: values[:1] for name, values in page[part].items()}
        for part in ("data", "timestamps")
    }
    return {**page, **{key: page[key][:1] for key in ("uid", "seq_num", "time")}, **columns}

"""Writes the documents of one derived run into Tiled, resumes it, and keeps other writers out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tiled.client.utils import ClientError
from tiled.structures.core import Spec

from gixi_bluesky.errors import DocumentError, RowsLostError, RunCompleteError, StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.tiled_adapters.files.requests import Finished
from gixi_bluesky.tiled_adapters.schema import STREAMS, TABLES, stored_columns
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings
from gixi_bluesky.tiled_adapters.store.claims import SESSION_S, Claim, store_errors
from gixi_bluesky.tiled_adapters.store.registered_images import StoredImages, serves_images
from gixi_bluesky.tiled_adapters.store.tables import StoredTable
from gixi_bluesky.tiled_adapters.store.uploads import UploadedImages

__all__ = ["DerivedRunStore", "RunState"]

Int64 = NDArray[np.int64]

_log = get_logger()


@dataclass(frozen=True, slots=True)
class RunState:
    """The content of a run when it is opened.

    committed: frames that are done
    rows: rows of each stored table; the next event has seq_num = rows + 1
    """

    committed: frozenset[int]
    rows: dict[str, int]


class DerivedRunStore:
    """Stores one derived run, document by document, as bluesky-tiled-plugins would lay it out.

    The order of a flush is the commit protocol: images, `peaks`, `matches`, `match_peaks`, last
    `frames`. A call that raised StoreError may be repeated with the same document: rows that
    arrived are not stored twice. Not for several threads at once.

    session_s, alive, patience: as of Claim
    """

    keeps_rows = True
    trouble = ""

    def __init__(
        self,
        client: Any,
        output: OutputSettings,
        tiled: TiledSettings,
        session_s: float = SESSION_S,
        alive: Callable[[], bool] = lambda: True,
        patience: float = 1.0,
    ) -> None:
        self._alive = alive
        self._patience = patience
        self._client = client
        self._output = output
        self._tiled = tiled
        self._session_s = session_s
        self._claim: Claim | None = None
        self._run: Any = None
        self._tags: list[str] | None = None
        self._streams: dict[str, str] = {}
        self._tables: dict[str, StoredTable] = {}
        self._images: dict[str, StoredImages] = {}
        self._uploads: dict[tuple[str, str], UploadedImages] = {}
        self._resources: dict[str, Mapping[str, Any]] = {}

    def open(self, start: Mapping[str, Any]) -> RunState:
        """Create the run of this start document, or resume it after its last committed frame.

        Raises RunCompleteError when it has its stop, ClaimLostError when another writer holds it,
        StoreError when Tiled refuses.
        """
        uid = start["uid"]
        with store_errors(f"opening run {uid}"):
            self._client = self._client.include_data_sources()
            self._refuse_complete(uid)
            self._claim = Claim(self._client, uid, self._session_s, self._alive, self._patience)
            self._claim.acquire()
            try:
                self._refuse_complete(uid)
                return self._create_or_resume(dict(start))
            except BaseException:
                self._claim.release()
                raise

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Store one document: descriptor, event_page, stream_resource, stream_datum or stop."""
        write = {
            "descriptor": self._descriptor,
            "event_page": self._event_page,
            "stream_resource": self._stream_resource,
            "stream_datum": self._stream_datum,
            "stop": self._stop,
        }.get(name)
        if write is None:
            message = f"got a {name} document; expected pages, stream documents or the stop"
            raise DocumentError(message)
        self._held().check()
        with store_errors(f"storing a {name} document"):
            write(doc)

    def refresh_live(self, summary: Mapping[str, Any]) -> None:
        """Write the running summary to the metadata, for queries before the stop document."""
        self._held().check()
        with store_errors("refreshing gixi_live"):
            self._run.update_metadata({"gixi_live": dict(summary)}, drop_revision=True)

    def read(self, stream: str) -> pd.DataFrame:
        """Return the stored rows of a table, so that a resumed run can sum them up."""
        return self._tables[stream].read()

    def serves(self, uid: str, finished: Finished | None) -> bool:
        """Return True when the server reads the images of a run from its finished file.

        One image is read; it must be the one in the file. The run need not be open.
        """
        if finished is None or not finished.whole or finished.sample is None:
            return False
        try:
            return serves_images(self._client, uid, finished)
        except (StoreError, KeyError) as error:
            _log.error("finished_file_not_served", uid=uid, error=str(error))
            return False

    def close(self) -> None:
        """Close the run without a stop document, so that the next writer can resume it at once."""
        if self._claim is not None:
            self._claim.release()

    def _held(self) -> Claim:
        if self._claim is None:
            message = "the run is not open; call open(start) first"
            raise StoreError(message)
        return self._claim

    def _refuse_complete(self, uid: str) -> None:
        try:
            self._run = self._client[uid]
        except KeyError:
            self._run = None
            return
        if self._run.metadata.get("stop"):
            message = f"derived run {uid} is stored and complete; there is nothing to do"
            raise RunCompleteError(message)

    def _create_or_resume(self, start: dict[str, Any]) -> RunState:
        specs = start.pop("tiled_specs", None) or []
        self._tags = start.pop("tiled_access_tags", None)
        if isinstance(self._tiled.access_tags, tuple):
            self._tags = list(self._tiled.access_tags)
        if self._run is None:
            self._run = self._client.create_container(
                key=start["uid"],
                metadata={"start": start},
                specs=[*map(Spec, specs), Spec("BlueskyRun", version="3.0")],
                access_tags=self._tags,
            )
            return RunState(frozenset(), dict.fromkeys(STREAMS, 0))
        _log.info("run_resumed", uid=start["uid"])
        for name, node in self._run.base.items():
            self._adopt(name, node.base, _in_order(name, node.metadata["data_keys"]))
        committed = self._settle()
        rows = {name: table.rows for name, table in self._tables.items()}
        return RunState(frozenset(committed.tolist()), {**dict.fromkeys(STREAMS, 0), **rows})

    def _descriptor(self, doc: Mapping[str, Any]) -> None:
        name = doc["name"]
        self._streams[doc["uid"]] = name
        if name in self._images:
            self._images[name].describe(_external(doc["data_keys"]))
        if name in {*self._tables, *self._images, *(stream for stream, _ in self._uploads)}:
            return
        metadata = {
            key: value
            for key, value in doc.items()
            if key not in {"name", "object_keys", "run_start"}
        }
        specs = [Spec("BlueskyEventStream", version="3.0"), Spec("composite")]
        try:
            node = self._run.create_container(
                name, metadata=metadata, specs=specs, access_tags=self._tags
            )
        except ClientError as error:
            if error.response.status_code != 409:
                raise
            node = self._run[name]
        self._adopt(name, node.base, doc["data_keys"])

    def _adopt(self, name: str, node: Any, data_keys: Mapping[str, Any]) -> None:
        external = _external(data_keys)
        ours = {key: value for key, value in data_keys.items() if key not in external}
        arrays = {key: value for key, value in ours.items() if value.get("shape")}
        internal = {key: value for key, value in ours.items() if key not in arrays}
        for key, value in arrays.items():
            self._uploads[name, key] = UploadedImages(node, key, value, self._tags)
        if internal:
            self._tables[name] = StoredTable(node, name, internal, self._tags)
            self._tables[name].create()
        if external:
            self._images[name] = StoredImages(node, external, self._tags)

    def _event_page(self, doc: Mapping[str, Any]) -> None:
        stream = self._stream_of(doc)
        if stream in self._tables:
            self._tables[stream].append(doc)
            return
        for key, images in doc["data"].items():
            self._uploads[stream, key].write(doc["seq_num"], images)

    def _stream_resource(self, doc: Mapping[str, Any]) -> None:
        self._resources[doc["uid"]] = doc

    def _stream_datum(self, doc: Mapping[str, Any]) -> None:
        resource = self._resources.get(doc["stream_resource"])
        if resource is None:
            message = f"stream_datum {doc['uid']} came before its stream_resource"
            raise DocumentError(message)
        self._images[self._stream_of(doc)].extend(resource, doc["indices"]["stop"])

    def _stream_of(self, doc: Mapping[str, Any]) -> str:
        try:
            return self._streams[doc["descriptor"]]
        except KeyError:
            message = f"a document refers to the unknown descriptor {doc['descriptor']!r}"
            raise DocumentError(message) from None

    def _stop(self, doc: Mapping[str, Any]) -> None:
        before = self._tables["frames"].read(["frame"])["frame"].nunique()
        if (lost := before - len(self._settle())) > 0:
            message = (
                f"the server lost rows of {lost} frames of run {self._run.metadata['start']['uid']}"
                "; open the run again to have them redone"
            )
            raise RowsLostError(message)
        self._held().check()
        self._run.update_metadata({"stop": dict(doc)}, drop_revision=True)
        for table in self._tables.values():
            table.close()
        for images in self._images.values():
            images.close()
        for uploaded in self._uploads.values():
            uploaded.close()
        self._run.close_stream()
        self._held().release()

    def _settle(self) -> Int64:
        """Remove doubled and uncommitted rows; return the committed frames.

        `frames` is emptied before any other table is rewritten and filled last: a crash in between
        leaves frames to be done again, never frames without their peaks.
        """
        if "frames" not in self._tables:
            return np.empty(0, dtype=np.int64)
        frames = self._tables["frames"]
        committed = self._committed()
        others = [table for name, table in self._tables.items() if name != "frames"]
        dirty = [table for table in others if table.unsettled(committed)]
        if not dirty and not frames.unsettled(committed):
            return committed
        _log.warning("rows_repaired", tables=[table.name for table in dirty] or ["frames"])
        keep = [(table, table.settled(committed)) for table in (*dirty, frames)]
        self._held().check()
        frames.clear()
        for table, rows in keep:
            table.replace(rows)
        return committed

    def _committed(self) -> Int64:
        """Return the frames that have their row in `frames` and all the peaks it counts."""
        done = self._tables["frames"].read(["frame", "n_peaks"]).drop_duplicates("frame")
        if "peaks" in self._tables:
            peaks = self._tables["peaks"].read(["frame", "peak"]).drop_duplicates()
            stored = done["frame"].map(peaks["frame"].value_counts()).fillna(0)
            whole = stored == done["n_peaks"]
            if not whole.all():
                _log.error("peaks_missing", frames=done["frame"][~whole].tolist())
            done = done[whole]
        return done["frame"].to_numpy(dtype=np.int64)


def _external(data_keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data_keys.items() if "external" in value}


def _in_order(stream: str, data_keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return data_keys in the order of the columns, which a stored document may have lost."""
    columns = [column.name for column in stored_columns(stream)] if stream in TABLES else []
    known = {name: data_keys[name] for name in columns if name in data_keys}
    return {**known, **data_keys}

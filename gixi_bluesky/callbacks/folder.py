"""A folder that grows, as a Bluesky run: its image files become stream documents."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import event_model

from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.detector_files import (
    IMAGE_SUFFIXES,
    ImageFile,
    open_image_file,
)
from gixi_bluesky.callbacks.settings import InputSettings
from gixi_bluesky.errors import FrameError, RefusedPathError, UnavailableError
from gixi_bluesky.log import get_logger

__all__ = ["IMAGE_KEY", "FolderRun", "folder_input"]

IMAGE_KEY = "image"
_STREAM = "primary"
_FILE_TIMEOUT_S = 0.5
_log = get_logger()

Feed = Callable[[str, dict[str, Any]], None]
_Seen = tuple[int, int]  # time of the last change in ns, size; equal twice = complete


def folder_input(settings: InputSettings, folder: Path) -> InputSettings:
    """Return the input settings by which a FolderRun is analysed."""
    return settings.model_copy(
        update={
            "stream": _STREAM,
            "data_key": IMAGE_KEY,
            "select": {},
            "roots": (*settings.roots, folder) if settings.roots else (),
            # Files are told of when they are complete, so there is nothing to wait for.
            "file_timeout_s": min(settings.file_timeout_s, _FILE_TIMEOUT_S),
        }
    )


class FolderRun:
    """Polls a folder and tells of each complete image file as documents of one run.

    Polling works on every file system, also where changes made elsewhere send no notice. A file is
    complete when two looks found the same size and time; older files come first. A file that cannot
    be read still gets its frame, so that its status is told.

    feed: takes (name, document), such as an Analysis
    access: which files may be read, those of the folder and what they lead to; None = all
    Raises UnavailableError when there is no such folder.
    """

    def __init__(self, folder: Path, feed: Feed, access: FileAccess | None = None) -> None:
        if not folder.is_dir():
            message = f"{folder} is not there, or is no folder; expected the folder to follow"
            raise UnavailableError(message)
        self.folder = folder.absolute()
        self._feed = feed
        self._access = access or FileAccess((), {})
        self._pending: dict[Path, _Seen] = {}
        self._done: set[Path] = set()
        self._names: list[str] = []
        self._run = event_model.compose_run(
            metadata={"plan_name": "watch", "folder": self.folder.as_uri()}
        )
        self._descriptor: Any = None
        feed("start", self._run.start_doc)

    @property
    def uid(self) -> str:
        """Uid of the raw run."""
        return str(self._run.start_doc["uid"])

    @property
    def n_frames(self) -> int:
        """How many images were told of."""
        return len(self._names)

    def name_of(self, frame: int) -> str:
        """Return the path of a frame, with `::index` in a file of several images."""
        return self._names[frame]

    def poll(self) -> int:
        """Look once and tell of what became complete; return the number of new images."""
        before = self.n_frames
        seen = self._look()
        complete = [path for path, now in seen.items() if now == self._pending.get(path)]
        self._pending = seen
        for path in sorted(complete, key=lambda path: (seen[path], path.name)):
            written_ns, _ = self._pending.pop(path)
            self._done.add(path)
            self._tell(path, written_ns / 1e9)
        return self.n_frames - before

    def stop(self) -> None:
        """End the run."""
        self._feed("stop", self._run.compose_stop())

    def _look(self) -> dict[Path, _Seen]:
        found: dict[Path, _Seen] = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                path = Path(entry.path)
                if path.suffix.lower() not in IMAGE_SUFFIXES or path in self._done:
                    continue
                try:
                    state = entry.stat()
                except OSError:
                    continue  # gone again, such as a temporary file that was renamed
                if entry.is_file() and state.st_size:
                    found[path] = (state.st_mtime_ns, state.st_size)
        return found

    def _tell(self, path: Path, written: float) -> None:
        try:
            file = open_image_file(path, access=self._access)
        except (FrameError, RefusedPathError) as error:
            _log.warning("image_file_unreadable", file=str(path), error=str(error))
            file = ImageFile(path, "image/tiff")
        if self._descriptor is None:
            self._descriptor = self._describe()
        first, n = self.n_frames, file.n_images
        self._names += [f"{path}::{i}" if n > 1 else str(path) for i in range(n)]
        resource = self._resource(file)
        self._feed("stream_resource", resource)
        self._feed(
            "stream_datum",
            {
                "uid": f"{resource['uid']}/0",
                "stream_resource": resource["uid"],
                "descriptor": self._descriptor.descriptor_doc["uid"],
                "indices": {"start": 0, "stop": n},
                "seq_nums": {"start": first + 1, "stop": first + n + 1},
            },
        )
        for seq_num in range(first + 1, first + n + 1):
            event = self._descriptor.compose_event(
                data={}, timestamps={}, time=written, seq_num=seq_num
            )
            self._feed("event", event)

    def _describe(self) -> Any:
        # Files of another size are for the analysis to judge, so none is promised here.
        bundle = self._run.compose_descriptor(
            name=_STREAM,
            data_keys={
                IMAGE_KEY: {
                    "source": self.folder.as_uri(),
                    "dtype": "array",
                    "shape": [],
                    "external": "STREAM:",
                }
            },
        )
        self._feed("descriptor", bundle.descriptor_doc)
        return bundle

    def _resource(self, file: ImageFile) -> dict[str, Any]:
        return {
            "uid": str(uuid4()),
            "run_start": self.uid,
            "data_key": IMAGE_KEY,
            "mimetype": file.mimetype,
            "uri": file.path.as_uri(),
            "parameters": {"dataset": file.dataset} if file.dataset else {},
        }

"""A growing folder as a Bluesky run: its image files become stream documents."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import event_model

from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.detector_files import is_image_file, open_image_file
from gixi_bluesky.callbacks.images.hdf5_images import AbsentFilesError
from gixi_bluesky.callbacks.images.natural_order import natural
from gixi_bluesky.callbacks.images.stream_resources import UNREADABLE
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
            # Files are sent when they are complete, so there is nothing to wait for.
            "file_timeout_s": min(settings.file_timeout_s, _FILE_TIMEOUT_S),
        }
    )


class FolderRun:
    """Polls a folder and sends each complete image file as documents of one run.

    Polling works on every file system, also where changes made elsewhere send no notice. A file is
    complete when two looks found the same size and time; older files come first, those of one time
    in natural order. A file that cannot be read still gets its frame, with status and reason. The
    master file of an Eiger is left out where its data files are in the folder, too.

    feed: takes (name, document), such as an Analysis
    access: which files may be read, those of the folder and what they lead to; None = all
    leave_out: says of a file, its time of writing and number of images whether it is not sent
    Raises UnavailableError when there is no such folder.
    """

    def __init__(
        self,
        folder: Path,
        feed: Feed,
        access: FileAccess | None = None,
        leave_out: Callable[[Path, float, int], bool] = lambda *_: False,
    ) -> None:
        if not folder.is_dir():
            message = f"{folder} is not there, or is no folder; expected the folder to follow"
            raise UnavailableError(message)
        self.folder = folder.absolute()
        self._feed = feed
        self._access = access or FileAccess((), {})
        self._leave_out = leave_out
        self._pending: dict[Path, _Seen] = {}
        self._done: set[Path] = set()
        self._ignored: set[str] = set()  # suffixes of files that are not read
        self._names: list[str] = []
        self._run = event_model.compose_run(
            metadata={
                "plan_name": "watch",
                "title": self.folder.name,
                "folder": self.folder.as_uri(),
            }
        )
        self._descriptor: Any = None
        feed("start", self._run.start_doc)

    @property
    def uid(self) -> str:
        """Uid of the raw run."""
        return str(self._run.start_doc["uid"])

    @property
    def n_frames(self) -> int:
        """Number of images that were sent."""
        return len(self._names)

    def name_of(self, frame: int) -> str:
        """Return the path of a frame, with `::index` in a file of several images."""
        return self._names[frame]

    def poll(self) -> int:
        """Poll once and send new complete files; return the number of new images."""
        before = self.n_frames
        seen = self._look()
        complete = [path for path, now in seen.items() if now == self._pending.get(path)]
        self._pending = seen
        for path in sorted(complete, key=lambda path: (seen[path][0], natural(path.name))):
            written_ns, _ = self._pending.pop(path)
            self._done.add(path)
            self._take(path, written_ns / 1e9)
        return self.n_frames - before

    def stop(self) -> None:
        """End the run."""
        self._feed("stop", self._run.compose_stop())

    def _look(self) -> dict[Path, _Seen]:
        found: dict[Path, _Seen] = {}
        with os.scandir(self.folder) as entries:
            for entry in entries:
                path = Path(entry.path)
                if path in self._done:
                    continue
                try:
                    state = entry.stat()
                except OSError:
                    continue  # gone again, such as a temporary file that was renamed
                if not entry.is_file() or not state.st_size:
                    continue
                if is_image_file(path):
                    found[path] = (state.st_mtime_ns, state.st_size)
                else:
                    self._ignore(path)
        return found

    def _ignore(self, path: Path) -> None:
        """Report the first file of each kind that is not read."""
        self._done.add(path)
        if path.name.startswith(".") or path.suffix in self._ignored:
            return
        self._ignored.add(path.suffix)
        reason = f"files ending in {path.suffix or 'nothing'} are not read as images"
        _log.warning("image_file_ignored", file=str(path), reason=reason)

    def _take(self, path: Path, written: float) -> None:
        try:
            file = open_image_file(path, access=self._access)
        except (FrameError, RefusedPathError) as error:
            if isinstance(error, AbsentFilesError) and self._all_here(error.files):
                self._leave_index(path)
                return
            _log.warning("image_file_unreadable", file=str(path), error=str(error))
            refused = isinstance(error, UnavailableError | RefusedPathError)
            problem = {"status": "unavailable" if refused else "failed", "reason": str(error)}
            self._names.append(str(path))
            self._send(path, UNREADABLE, problem, self.n_frames - 1, 1, written)
            return
        if file.other_files and self._all_here(file.other_files):
            self._leave_index(path)
            return
        if self._leave_out(path, written, file.n_images):
            return
        if file.dataset:
            _log.info("image_dataset", file=str(path), dataset=file.dataset)
        for note in file.notes:
            _log.warning("image_file_incomplete", file=str(path), reason=note)
        first, n = self.n_frames, file.n_images
        self._names += [f"{path}::{i}" if n > 1 else str(path) for i in range(n)]
        for part in file.parts:
            parameters = {"dataset": part.dataset} if part.dataset else {}
            self._send(path, file.mimetype, parameters, first, part.n_images, written)
            first += part.n_images

    def _all_here(self, files: frozenset[Path]) -> bool:
        home = self.folder.resolve()
        return all(file.parent == home and is_image_file(file) for file in files)

    def _leave_index(self, path: Path) -> None:
        reason = "it only leads to image files of this folder, which are read by themselves"
        _log.info("image_file_ignored", file=str(path), reason=reason)

    def _send(
        self,
        path: Path,
        mimetype: str,
        parameters: dict[str, str],
        first: int,
        n: int,
        written: float,
    ) -> None:
        """Send the documents of `n` images, the first of which is frame `first`."""
        if self._descriptor is None:
            self._descriptor = self._describe()
        resource = self._resource(path, mimetype, parameters)
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
        # The analysis rejects files of another size, so no size is declared here.
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

    def _resource(self, path: Path, mimetype: str, parameters: dict[str, str]) -> dict[str, Any]:
        return {
            "uid": str(uuid4()),
            "run_start": self.uid,
            "data_key": IMAGE_KEY,
            "mimetype": mimetype,
            "uri": path.as_uri(),
            "parameters": parameters,
        }

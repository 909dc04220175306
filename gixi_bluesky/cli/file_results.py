"""The results of image files: each with its tables, and all of them in one NeXus file."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gixi_bluesky.cli.console import say
from gixi_bluesky.errors import ConfigError, StoreError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from gixi_bluesky.callbacks.worker.jobs import Analysed, Outcome
    from gixi_bluesky.processing.tables import Table
    from gixi_bluesky.processing.types import Cut
    from gixi_bluesky.tiled_adapters.files.result_writer import ResultWriter

__all__ = ["FileResult", "ResultFile", "require_writable"]


def require_writable(folder: Path) -> None:
    """Raise ConfigError unless files can be made in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        message = f"results cannot be written to {folder}: {error.strerror}"
        raise ConfigError(message) from error


class ResultFile:
    """Writes results as they come; what is done when the block ends is kept, also by Ctrl-C.

    path: None = nothing is written; names: of the images on the command line
    Raises ConfigError at once where `path` cannot be written, StoreError when the disk refuses.
    """

    def __init__(
        self,
        path: Path | None,
        names: Sequence[str],
        n_images: int,
    ) -> None:
        self._path = path
        self._start = {"title": title_of(names), "time": time.time()}
        self._n_images = n_images
        self._writer: ResultWriter | None = None
        self._frames: list[dict[str, Any]] = []
        if path is not None:
            require_writable(path.absolute().parent)

    def begin(self, provenance: Mapping[str, Any], images: str) -> None:
        """Take the provenance of the results and the hash of the images, before the first."""
        from gixi_bluesky.tiled_adapters.files.result_writer import ResultWriter

        if self._path is not None:
            start = {**self._start, "gixi": {"images_sha256": images}}
            self._writer = ResultWriter(self._path, provenance, start)

    def add(self, label: str, outcome: Outcome) -> None:
        """Add an image, also one that could not be analysed."""
        if self._writer is None:
            return
        number = len(self._frames)
        if outcome.result is not None:
            self._writer.add(FileResult(outcome.result, number))
        self._frames.append(_frame_row(number, label, outcome))

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is None:
            return
        try:
            if self._writer.n_images and not isinstance(error, StoreError):
                self._finish(self._writer, interrupted=kind is not None)
        finally:
            self._writer.close()

    def _finish(self, writer: ResultWriter, *, interrupted: bool) -> None:
        from gixi_bluesky.tiled_adapters.schema import Frames

        path = writer.finish(dict(Frames.from_rows(self._frames).items()))
        done = f" with {len(self._frames)} of {self._n_images} images, as it was interrupted"
        say(f"wrote {path}{done if interrupted else ''}")


def title_of(names: Sequence[str]) -> str:
    """Return the name of the only file, or of the folder of several, as the title of a result."""
    files = [Path(name.partition("::")[0]).absolute() for name in names]
    if len(files) == 1:
        return files[0].name
    folders = {file.parent for file in files}
    return Path(os.path.commonpath([str(folder) for folder in folders])).name or "images"


def _frame_row(number: int, label: str, outcome: Outcome) -> dict[str, Any]:
    result = outcome.result
    row: dict[str, Any] = {
        "frame": number,
        "raw_time": _written(label),
        "n_peaks": 0,
        "status": outcome.status,
        "reason": outcome.reason,
        "source": label[-_LONGEST:],
    }
    if result is None:
        return row
    best = result.matches if len(result.matches) else None
    return row | {
        "incidence_angle_deg": result.incidence_angle_deg,
        "n_peaks": len(result.peaks),
        "best_phase": "" if best is None else best.phase[0],
        "best_probability": math.nan if best is None else float(best.probability[0]),
        "total_intensity": result.total_intensity,
        "gain": result.gain,
        "readout_noise": result.readout_noise,
    }


def _written(label: str) -> float:
    """Return when the file of an image was written, seconds since 1970; NaN if it is not there."""
    try:
        return Path(label.partition("::")[0]).stat().st_mtime
    except OSError:
        return math.nan


_LONGEST = 300  # as the column of the table


@dataclass(frozen=True, slots=True)
class FileResult:
    """The result of one image, numbered as its rows are shown or written."""

    analysed: Analysed
    index: int

    @property
    def q(self) -> NDArray[np.float64]:
        """(n_q,) |q| of the columns, 1/angstrom."""
        return self.analysed.q

    @property
    def phi(self) -> NDArray[np.float64]:
        """(n_phi,) polar angle of the rows, deg."""
        return self.analysed.phi

    @property
    def polar_image(self) -> NDArray[np.float32]:
        """(n_phi, n_q) mean counts per pixel. Raises ValueError when it was not kept."""
        if self.analysed.image is None:
            message = "the polar image of this frame was not kept"
            raise ValueError(message)
        return self.analysed.image

    @property
    def peaks(self) -> pd.DataFrame:
        """The peaks with the columns of the stored `peaks` table."""
        return self._numbered(self.analysed.peaks, track=True)

    @property
    def matches(self) -> pd.DataFrame:
        """The candidate phases with the columns of the stored `matches` table."""
        return self._numbered(self.analysed.matches)

    @property
    def match_peaks(self) -> pd.DataFrame:
        """The hkl of each explained peak with the columns of `match_peaks`."""
        return self._numbered(self.analysed.match_peaks)

    @property
    def cuts(self) -> Mapping[str, Cut]:
        """The configured cuts by name."""
        return self.analysed.cuts

    @property
    def textures(self) -> pd.DataFrame:
        """The orientation of the configured rings with the columns of `textures`."""
        return self._numbered(self.analysed.textures)

    @property
    def steps(self) -> dict[str, pd.DataFrame]:
        """The rows of each step without a state, by its name."""
        import pandas as pd

        return {name: pd.DataFrame(dict(rows)) for name, rows in self.analysed.step_rows.items()}

    def _numbered(self, table: Table, *, track: bool = False) -> pd.DataFrame:
        from gixi_bluesky.processing.tables import numbered

        return numbered(table, self.index, track=track)

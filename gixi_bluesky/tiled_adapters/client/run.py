"""The client of a derived run: with this package installed, `catalogue[uid]` is a GIXIRun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRunV3
from numpy.typing import NDArray
from tiled.client.constructors import from_context
from tiled.client.utils import ClientError

from gixi_bluesky.errors import StoreError
from gixi_bluesky.processing.tracks.phase_tables import track_table, with_sum_tracks
from gixi_bluesky.processing.tracks.sum_phases import stored_lines, with_phases_of_sums
from gixi_bluesky.processing.tracks.unexplained import Unexplained, unexplained_lines
from gixi_bluesky.tiled_adapters.client.cut_series import CutSeries, read_rows, tiled_cut_names
from gixi_bluesky.tiled_adapters.client.raw_signals import joined
from gixi_bluesky.tiled_adapters.client.run_display import run_html, run_line
from gixi_bluesky.tiled_adapters.frame_arrays import (
    CUTS,
    Q_IMAGE,
    FrameArray,
    StoredAxis,
    cut_arrays,
)
from gixi_bluesky.tiled_adapters.schema import (
    IMAGE_KEY,
    IMAGES,
    PURPOSE,
    TABLE_KEYS,
    TABLES,
    complete_columns,
    stored_columns,
    table_keys,
)

if TYPE_CHECKING:
    import xarray

__all__ = ["GIXIRun"]


class GIXIRun(BlueskyRunV3):
    """The peaks, phases and polar images found in one raw run, also while it is being written."""

    @property
    def raw_uid(self) -> str:
        """Uid of the raw run."""
        return str(self.metadata["start"]["gixi"]["raw_uid"])

    @property
    def complete(self) -> bool:
        """True if the run has its stop document; queries the server while it has none."""
        if not self.metadata.get("stop"):
            self.refresh()
        return bool(self.metadata.get("stop"))

    @property
    def summary(self) -> dict[str, Any]:
        """Counts, phases and |q| of the whole run, or of what is done so far."""
        self.complete  # noqa: B018 - refreshes the metadata of a growing run
        stop = self.metadata.get("stop") or {}
        return dict(stop.get("gixi") or self.metadata.get("gixi_live") or {})

    @property
    def provenance(self) -> dict[str, Any]:
        """Provenance of the results: configuration, weights, structures, versions."""
        return dict(self.metadata["start"]["gixi"].get("provenance", {}))

    @property
    def raw(self) -> Any:
        """The raw run, from the catalogue `tiled.raw` of the configuration on the same server.

        Raises StoreError when it is not there; then look up `raw_uid` in the right catalogue.
        """
        path = self.provenance.get("config", {}).get("tiled", {}).get("raw", "raw")
        try:
            catalogue = from_context(self.context, node_path_parts=path.split("/"))
            return catalogue[self.raw_uid]
        except (KeyError, ClientError) as error:
            message = f"found no run {self.raw_uid} in the catalogue {path!r} of this server"
            raise StoreError(message) from error

    def frames(self) -> pd.DataFrame:
        """Return one row a frame, with `status` and the best phase."""
        return self._rows("frames")

    def peaks(self, frame: int | None = None, q: tuple[float, float] | None = None) -> pd.DataFrame:
        """Return one row a peak, of one `frame` or within lo ≤ |q| ≤ hi (1/angstrom) if given."""
        rows = self._rows("peaks", frame)
        return rows if q is None else rows[rows["q"].between(*q)].reset_index(drop=True)

    def matches(self, phase: str | None = None, frame: int | None = None) -> pd.DataFrame:
        """Return one row a frame and candidate phase, of one `phase` (its slug) if given."""
        rows = self._rows("matches", frame)
        return rows if phase is None else rows[rows["phase"] == phase].reset_index(drop=True)

    def match_peaks(self, frame: int | None = None) -> pd.DataFrame:
        """Return which hkl of which phase explains which peak."""
        return self._rows("match_peaks", frame)

    def tracks(self) -> pd.DataFrame:
        """Return one row for each peak that was followed over frames, the longest first.

        Columns: track, phase and hkl of most of its peaks (empty = none), n_frames and
        n_detections, first_frame, last_frame, of its peaks the mean q and phi, the kind and the
        highest intensity. Tracks of peaks that only means of frames show come last, with the kind
        `sum`; their phase is the only one that has a line within 0.4 % of their |q|. Empty when
        peaks were not followed.
        """
        matches = self.matches()
        found = track_table(self.peaks(), self.match_peaks(), matches)
        found = with_sum_tracks(found, self._rows("courses"))
        searched = self.metadata["start"]["gixi"].get("phases_searched") or ()
        return with_phases_of_sums(found, matches, stored_lines(searched))

    def track(self, number: int) -> pd.DataFrame:
        """Return the course of a track, a row a frame, with `time` in seconds since 1970.

        Where the detector found nothing, the intensity is a forced measurement. Raises KeyError
        for a track that the run does not have.
        """
        rows = self._rows("courses")
        rows = rows[rows["track"] == number].sort_values("frame", ignore_index=True)
        if not len(rows):
            message = f"run {self.metadata['start']['uid']} has no track {number}"
            raise KeyError(message)
        times = self.frames().set_index("frame")["raw_time"]
        return rows.assign(time=rows["frame"].map(times))

    @property
    def cuts(self) -> list[str]:
        """The names of the cuts that the run holds."""
        return tiled_cut_names(self)

    def cut(self, name: str) -> CutSeries:
        """Return a cut of all frames stored so far, with their numbers and times.

        Raises KeyError for a cut that the run does not have.
        """
        if name not in self.cuts:
            message = (
                f"run {self.metadata['start']['uid']} has no cut {name!r}; it has "
                f"{', '.join(self.cuts) or 'none'}"
            )
            raise KeyError(message)
        arrays = self.cut_arrays(name)
        nodes = [self[CUTS].base[array.key] for array in arrays]
        rows = min(node.shape[0] for node in nodes)
        intensity, error = (read_rows(node, arrays[0].shape, rows) for node in nodes)
        return CutSeries.of(arrays[0], intensity, error, self.frames())

    def cut_arrays(self, name: str) -> tuple[FrameArray, FrameArray]:
        """Return how a cut is stored: its intensity and its error, with the axis."""
        metadata = self[CUTS].metadata
        label = metadata["data_keys"][name]["dims"][0]
        configuration = metadata["configuration"][PURPOSE]
        axis = configuration["data_keys"][label]
        stored = StoredAxis(
            axis["description"], axis["units"], np.asarray(configuration["data"][label])
        )
        return cut_arrays(name, stored, self.metadata["start"]["gixi"].get("frame_step", 1))

    def with_raw(self, *names: str, table: str = "frames") -> pd.DataFrame:
        """Return a table of this run with signals of the raw run as columns, such as a temperature.

        table: of this run, by frame: frames, peaks, matches, courses, textures or step_<name>
        A signal of the images' own stream is joined by event; others, monitors and the baseline
        by time, numbers with interpolation. Raises KeyError for a name that the raw run does not
        have, StoreError when it is not on this server.
        """
        rows, frames = self.table(table), self.frames()
        stream = self.metadata["start"]["gixi"].get("raw_stream", "primary")
        return joined(rows, frames, self.raw, stream, names)

    def table(self, name: str) -> pd.DataFrame:
        """Return the rows of any table of the run, without time stamps.

        Raises KeyError for a table that the run does not have.
        """
        if name in TABLES:
            return self._rows(name)
        internal = self[name].base["internal"]
        columns = [column for column in internal.columns if column not in {"seq_num", "time"}]
        rows: pd.DataFrame = internal.read([c for c in columns if not c.startswith("ts_")])
        return rows.drop_duplicates(list(table_keys(name))).reset_index(drop=True)

    def unexplained(self) -> Unexplained:
        """Return the tracks without a phase, in groups of a common course over time.

        `lines` has a row a track with its group and |q|; `cells` has cells proposed for groups of
        five or more lines, with de Wolff's figure of merit.
        """
        return unexplained_lines(self.tracks(), self._rows("courses"))

    def polar_image(self, frame: int) -> NDArray[np.float32]:
        """Return the image of a frame, (n_phi, n_q) float32, NaN = no data; row 0 is phi = 0.

        Raises StoreError when the run keeps no image of it.
        """
        return self._image(IMAGE_KEY, frame)

    def q_image(self, frame: int) -> xarray.DataArray:
        """Return the image of a frame on (q_z, q_xy), with its axes; NaN = no data.

        Raises StoreError when the run keeps no such image of it (`output.q_images`).
        """
        import xarray

        values = self._image(Q_IMAGE, frame)
        axes = self[IMAGES].metadata["configuration"][PURPOSE]
        dims = ("q_z", "q_xy")
        coords = {name: (name, axes["data"][name], {"units": "1/angstrom"}) for name in dims}
        return xarray.DataArray(values, coords, dims, name=Q_IMAGE, attrs={"units": "counts"})

    def _image(self, key: str, frame: int) -> NDArray[np.float32]:
        step = self.metadata["start"]["gixi"].get("image_step", 1)
        try:
            images = self[IMAGES].base[key]
        except KeyError:
            message = f"run {self.metadata['start']['uid']} keeps no images ({key})"
            raise StoreError(message) from None
        row, rest = divmod(frame, step)
        if rest or not 0 <= row < images.shape[0]:
            message = f"no image of frame {frame}; there are {images.shape[0]}, every {step} frames"
            raise StoreError(message)
        return cast("NDArray[np.float32]", np.asarray(images[row]))

    def plot(self) -> Any:
        """Draw intensity, lattice, |q| with its tracks over time, onsets, polar image and q map."""
        from gixi_bluesky.tiled_adapters.drawing.overview import overview_figure

        return overview_figure(self)

    def __repr__(self) -> str:
        return run_line(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return run_html(self)

    def _rows(self, stream: str, frame: int | None = None) -> pd.DataFrame:
        """Return a table without its time stamps; a row that was stored twice counts once."""
        names = [column.name for column in stored_columns(stream)]
        try:
            table = self[stream].base["internal"]
            rows = table.read([name for name in names if name in table.columns])
        except KeyError:
            return pd.DataFrame(columns=names)
        rows = complete_columns(rows, stream).drop_duplicates(list(TABLE_KEYS[stream]))
        if frame is not None:
            rows = rows[rows["frame"] == frame]
        return rows.reset_index(drop=True)

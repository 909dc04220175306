"""A derived run as Tiled clients see it: `catalogue[uid]` is a GIXIRun wherever this is installed."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRunV3
from numpy.typing import NDArray
from tiled.client.constructors import from_context

from gixi_bluesky.errors import StoreError
from gixi_bluesky.tiled_adapters.schema import IMAGE_KEY, IMAGES, TABLE_KEYS, stored_columns

__all__ = ["GIXIRun"]

_SHOWN_PHASES = 3


class GIXIRun(BlueskyRunV3):
    """The peaks, phases and polar images found in one raw run, also while it is being written."""

    @property
    def raw_uid(self) -> str:
        """Uid of the raw run."""
        return str(self.metadata["start"]["gixi"]["raw_uid"])

    @property
    def complete(self) -> bool:
        """Tell whether the run has its stop document; asks the server while it has none."""
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
        """What decided the results: configuration, weights, structures, versions."""
        return dict(self.metadata["start"]["gixi"].get("provenance", {}))

    def raw(self, catalogue: Any = None) -> Any:
        """Return the raw run, from `catalogue` or from the sibling `raw` of this run's catalogue.

        Raises StoreError when it is not there.
        """
        if catalogue is None:
            path = [*self.path_parts[:-2], "raw"]
            try:
                catalogue = from_context(self.context, node_path_parts=path)
            except Exception as error:
                message = (
                    "found no catalogue `raw` beside this run's; pass it as run.raw(catalogue)"
                )
                raise StoreError(message) from error
        try:
            return catalogue[self.raw_uid]
        except KeyError:
            message = f"raw run {self.raw_uid} is not in the given catalogue"
            raise StoreError(message) from None

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

    def polar_image(self, i: int) -> NDArray[np.float32]:
        """Return image row i, (n_phi, n_q) float32, NaN = no data; row 0 is phi = 0.

        Raises StoreError when the run keeps no such image.
        """
        try:
            images = self[IMAGES][IMAGE_KEY]
        except KeyError:
            message = f"run {self.metadata['start']['uid']} keeps no images"
            raise StoreError(message) from None
        if not -images.shape[0] <= i < images.shape[0]:
            message = f"got image {i}; the run holds {images.shape[0]} images"
            raise StoreError(message)
        return cast("NDArray[np.float32]", np.asarray(images[i % images.shape[0]]))

    def plot(self, **options: Any) -> Any:
        """Draw the overview figure: intensity and |q| over time, polar image, q map."""
        from gixi_bluesky.tiled_adapters.overview import overview

        return overview(self, **options)

    def __repr__(self) -> str:
        summary = self.summary
        phases = sorted(
            summary.get("phases", {}).values(), key=lambda one: -(one.get("max_probability") or 0)
        )
        told = ", ".join(
            f"{one['name']} {one['max_probability']:.2f}"
            for one in phases[:_SHOWN_PHASES]
            if one.get("max_probability") is not None
        )
        state = "complete" if self.metadata.get("stop") else "growing"
        return (
            f"<GIXIRun {self.metadata['start']['uid'][:8]} of raw {self.raw_uid[:8]}: "
            f"{summary.get('n_frames', 0)} frames, {summary.get('n_peaks', 0)} peaks"
            f"{', ' + told if told else ''}, {state}>"
        )

    def _rows(self, stream: str, frame: int | None = None) -> pd.DataFrame:
        """Return a table without its time stamps; a row that was stored twice counts once."""
        names = [column.name for column in stored_columns(stream)]
        try:
            rows = self[stream].base["internal"].read(names)
        except KeyError:
            return pd.DataFrame(columns=names)
        rows = rows.drop_duplicates(list(TABLE_KEYS[stream]))
        if frame is not None:
            rows = rows[rows["frame"] == frame]
        return rows.reset_index(drop=True)

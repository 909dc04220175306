"""One cut of all frames of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tiled.client.utils import handle_error

from gixi_bluesky.tiled_adapters.frame_arrays import CUTS, FrameArray

if TYPE_CHECKING:
    import xarray

__all__ = ["CutSeries", "read_rows", "tiled_cut_names"]

_BYTES_AT_ONCE = 64 << 20
_NAMES = {"q": "|q|", "phi": "phi", "q_xy": "q_xy", "q_z": "q_z"}


@dataclass(frozen=True, slots=True)
class CutSeries:
    """A cut of each frame of a run; NaN where the detector sees nothing.

    along: q, phi, q_xy or q_z; unit: of the axis
    axis: (bins,) centres of the bins
    frames: (n,) their numbers; times: (n,) of the raw events, s since 1970, NaN = not known
    intensity, error: (n, bins) float32, mean counts per pixel and standard error
    """

    name: str
    along: str
    unit: str
    axis: NDArray[np.float64]
    frames: NDArray[np.int64]
    times: NDArray[np.float64]
    intensity: NDArray[np.float32]
    error: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        array: FrameArray,
        intensity: NDArray[np.float32],
        error: NDArray[np.float32],
        frames: pd.DataFrame,
    ) -> CutSeries:
        """Return the cut of stored rows; the array is that of the intensity.

        frames: the rows of `frames`, which hold the times
        """
        (axis,) = array.axes
        n = min(len(intensity), len(error))
        numbers = np.arange(n, dtype=np.int64) * array.step
        times = frames.set_index("frame")["raw_time"].reindex(numbers)
        return cls(
            name=array.key,
            along=axis.name,
            unit=axis.unit,
            axis=axis.values,
            frames=numbers,
            times=times.to_numpy(dtype=np.float64),
            intensity=intensity[:n],
            error=error[:n],
        )

    def mean(
        self, frames: slice | Sequence[int] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean intensity of the frames, or of those chosen by position, and its error.

        Both (bins,); a bin without data in a frame is left out of its mean.
        """
        chosen = slice(None) if frames is None else frames
        intensity = self.intensity[chosen].astype(np.float64)
        variance = self.error[chosen].astype(np.float64) ** 2
        number = np.isfinite(intensity).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(number > 0, np.nansum(intensity, axis=0) / number, np.nan)
            error = np.where(number > 0, np.sqrt(np.nansum(variance, axis=0)) / number, np.nan)
        return mean, error

    def to_xarray(self) -> xarray.Dataset:
        """Return the cut as a Dataset over frame and bin, with time as a coordinate."""
        import xarray

        dims = ("frame", self.along)
        return xarray.Dataset(
            {
                "intensity": (dims, self.intensity, {"units": "counts"}),
                "error": (dims, self.error, {"units": "counts"}),
            },
            coords={
                "frame": self.frames,
                self.along: (self.along, self.axis, {"units": self.unit}),
                "time": ("frame", self.times, {"units": "s"}),
            },
            attrs={"name": self.name},
        )

    def plot(self, axes: Any = None) -> Any:
        """Draw a single frame as a curve with errors, several as a map over frames.

        axes: of matplotlib; None = of a new figure. Returns the axes.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        if axes is None:
            figure = Figure(layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.subplots()
        axes.set(title=self.name, xlabel=f"{_NAMES[self.along]} ({self.unit})")
        if len(self.frames) == 1:
            axes.errorbar(self.axis, self.intensity[0], self.error[0], lw=0.8)
            axes.set_ylabel("counts per pixel")
            return axes
        mesh = axes.pcolormesh(self.axis, self.frames, self.intensity, shading="nearest")
        axes.set_ylabel("frame")
        axes.figure.colorbar(mesh, ax=axes, label="counts per pixel")
        return axes


def tiled_cut_names(run: Any) -> list[str]:
    """Return the names of the cuts that a run on a server holds."""
    stream = run.base.get(CUTS)
    if stream is None:
        return []
    keys = list(stream.metadata["data_keys"])
    return [key for key in keys if f"{key}_error" in keys]


def read_rows(node: Any, shape: tuple[int, ...], rows: int, first: int = 0) -> NDArray[np.float32]:
    """Return rows first…rows-1 of an array on a server, in as few requests as possible.

    shape: of a row
    """
    at_once = max(_BYTES_AT_ONCE // (4 * int(np.prod(shape))), 1)
    parts = [np.empty((0, *shape), np.float32)]
    for begin in range(first, rows, at_once):
        end = min(begin + at_once, rows)
        answer = handle_error(
            node.context.http_client.get(
                node.item["links"]["full"],
                params={"slice": f"{begin}:{end}"},
                headers={"Accept": "application/octet-stream"},
            )
        )
        parts.append(np.frombuffer(answer.content, "<f4").reshape(end - begin, *shape))
    return np.concatenate(parts)

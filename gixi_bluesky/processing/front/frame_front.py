"""The front of the chain: a raw frame, corrected, on the grids and ready for the detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import FrameError
from gixi_bluesky.processing.configuration import PipelineSettings
from gixi_bluesky.processing.cuts.settings import CutSettings
from gixi_bluesky.processing.detector import Detector
from gixi_bluesky.processing.front.both_sides import BothSides
from gixi_bluesky.processing.front.frame_maps import FrameMaps, Maps
from gixi_bluesky.processing.geometry.calibration import orient, orientation_of
from gixi_bluesky.processing.geometry.conditions import Conditions
from gixi_bluesky.processing.on_device import device_front
from gixi_bluesky.processing.pixels.counts import Dark, PixelCorrection
from gixi_bluesky.processing.pixels.masks import require_image
from gixi_bluesky.processing.pixels.noise import Noise
from gixi_bluesky.processing.pixels.outliers import Outliers, find_outliers
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import GivenPerFrame
from gixi_bluesky.processing.stages import StageTimes
from gixi_bluesky.processing.types import CartesianImage, Cut, Detections, PolarImage

if TYPE_CHECKING:
    from gixi_bluesky.processing.on_device.front import PreparedFrame

__all__ = ["Exposure", "Front", "ReadyFrame"]

_MANY_OUTLIERS = 100  # cosmic rays strike a few pixels of most frames


@dataclass(frozen=True, slots=True)
class Exposure:
    """The exposure of a frame: the dark of its run, and the number of summed exposures."""

    dark: Dark | None = None
    number: int = 1


@dataclass(frozen=True, slots=True)
class ReadyFrame:
    """One frame half way: remapped and made ready for the detector.

    prepared: as the detector takes it; there: the same on the device of the network
    replaced: number of outliers; warnings: one sentence each
    """

    polar: PolarImage
    cartesian: CartesianImage | None
    q_image: CartesianImage | None
    prepared: NDArray[np.float32]
    incidence_angle_deg: float
    there: PreparedFrame | None = None
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    replaced: int = 0
    times: StageTimes = field(default_factory=StageTimes)
    warnings: tuple[str, ...] = ()


class Front:
    """Corrects frames, remaps them and gives them the contrast that the detector wants.

    cuts: by name, those that are taken from each frame
    """

    def __init__(
        self, config: PipelineSettings, detector: Detector, cuts: Mapping[str, CutSettings]
    ) -> None:
        self._config = config
        self._detector = detector
        self._there = device_front(detector, config.corrections)
        self._maps = FrameMaps(config, cuts)
        self._sides = BothSides(config.grid)
        self._dark_pixels: dict[tuple[tuple[int, int], Dark], PixelCorrection] = {}

    @property
    def maps_built(self) -> int:
        """Number of times that maps were built: at first use, and when the geometry changes."""
        return self._maps.built

    def remapper(self, shape: tuple[int, int], conditions: Conditions) -> Remapper:
        """Return the maps onto the grid for frames of `shape` under conditions."""
        return self._maps.of(shape, conditions).remapper

    def cuts(self, frame: NDArray[Any], conditions: Conditions) -> dict[str, Cut]:
        """Return the cuts of one frame without the rest.

        Raises FrameError for an image that cannot be analysed, GeometryError for an empty cut.
        """
        image = require_image(frame)
        maps = self._maps.of((image.shape[0], image.shape[1]), conditions)
        turned = orient(image, self._config.geometry)
        return _cut(maps, turned, maps.remapper(turned), conditions, (None, 1))

    def __call__(
        self,
        frame: NDArray[Any],
        conditions: Conditions,
        exposure: Exposure,
        *,
        q_image: bool = False,
    ) -> ReadyFrame:
        """Return a frame ready for `detect`.

        q_image: return the frame on (q_z, q_xy), too
        Raises FrameError for an image that cannot be analysed.
        """
        require_image(frame)
        times = StageTimes()
        rows, columns = frame.shape
        built = self.maps_built
        with times.timed("maps"):
            maps = self._maps.of((rows, columns), conditions)
        remapper, notes = maps.remapper, maps.notes
        if self.maps_built == built:
            times, notes = times.without("maps"), ()
        with times.timed("remap"):
            turned, outliers = self._outliers(remapper, frame)
            how = self._pixels(remapper, exposure.dark), exposure.number
            there = None
            if self._there is not None:
                corrections = outliers, how, conditions.monitor
                there = self._there(remapper, turned, *corrections, q_image=q_image)
            if there is None or maps.cuts is not None or self._sides.due:
                turned = outliers.replaced(turned)
            if there is not None:
                polar, cartesian, on_q = there.polar, there.cartesian, there.q_image
            else:
                polar, cartesian = remapper(turned, *how), remapper.cartesian(turned, *how)
                on_q = remapper.q_image(turned, *how) if q_image else None
        with times.timed("cuts"):
            cuts = _cut(maps, turned, polar, conditions, how)
        if not cuts:
            times = times.without("cuts")
        if conditions.monitor is not None and there is None:
            polar = polar.over(conditions.monitor)
            cartesian = cartesian and cartesian.over(conditions.monitor)
            on_q = on_q and on_q.over(conditions.monitor)
        with times.timed("contrast"):
            searched = (cartesian or polar).intensity
            prepared = there.prepared if there else self._detector.prepare(searched)
        with times.timed("sides"):
            warnings = notes + self._sides.warnings(remapper, turned) + _reported(len(outliers))
        return ReadyFrame(
            polar=polar,
            cartesian=cartesian,
            q_image=on_q,
            prepared=prepared,
            incidence_angle_deg=conditions.incidence_angle_deg or 0.0,
            there=there,
            cuts=cuts,
            replaced=len(outliers),
            times=times,
            warnings=warnings,
        )

    def detect(self, frames: Sequence[ReadyFrame]) -> list[Detections]:
        """Find the peaks of frames, best first; all their arrays are here when it returns."""
        there = [one.there for one in frames if one.there is not None]
        if self._there is not None and len(there) == len(frames):
            return self._there.detect(there)
        for one in there:
            one.wait()
        return self._detector(np.stack([(one.there or one).prepared for one in frames]))

    def _pixels(self, remapper: Remapper, dark: Dark | None) -> PixelCorrection | None:
        """Return the correction by the dark that the run brought, None for that of the files."""
        wanted = self._config.corrections.dark
        if not isinstance(wanted, GivenPerFrame):
            return None
        if dark is None or remapper.pixels is None:
            message = f"the configuration takes the dark from {wanted}; give dark for a frame"
            raise FrameError(message)
        key = (remapper.shape, dark)
        if key not in self._dark_pixels:
            turn = orientation_of(self._config.geometry)
            # One at a time: runs come one after the other, mostly.
            self._dark_pixels = {key: remapper.pixels.with_dark(dark, turn.apply)}
        return self._dark_pixels[key]

    def _outliers(self, remapper: Remapper, frame: NDArray[Any]) -> tuple[NDArray[Any], Outliers]:
        """Return the frame after `orient`, and the outliers that are to be replaced."""
        turned = orient(frame, self._config.geometry)
        if not self._config.corrections.replace_outliers:
            return turned, Outliers.none(turned)
        return turned, find_outliers(turned, remapper.masked)


def _cut(
    maps: Maps,
    turned: NDArray[Any],
    polar: PolarImage,
    conditions: Conditions,
    how: tuple[PixelCorrection | None, int],
) -> dict[str, Cut]:
    """Return the configured cuts of a frame after `orient`; the noise is the polar image's."""
    if maps.cuts is None:
        return {}
    cuts = maps.cuts(turned, Noise(polar.gain, polar.readout_noise**2), *how)
    if conditions.monitor is None:
        return cuts
    return {name: cut.over(conditions.monitor) for name, cut in cuts.items()}


def _reported(replaced: int) -> tuple[str, ...]:
    if replaced < _MANY_OUTLIERS:
        return ()
    return (
        f"{replaced} pixels far above all their neighbours were replaced by these; `gixi-bluesky "
        "mask` makes a mask of hot pixels from some frames",
    )

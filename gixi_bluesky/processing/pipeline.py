"""The chain: remap → contrast → detect → measure → match, for one frame or a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gixi_bluesky.errors import FrameError, GeometryError
from gixi_bluesky.processing.configuration import PipelineSettings, provenance_of
from gixi_bluesky.processing.detector import load_detector
from gixi_bluesky.processing.frame_maps import FrameMaps, Maps
from gixi_bluesky.processing.geometry.calibration import orient, orientation_of
from gixi_bluesky.processing.geometry.conditions import Conditions, sources
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.match.phases import Matcher
from gixi_bluesky.processing.match.temporal_prior import remembered
from gixi_bluesky.processing.measure.peaks import measure, surely_seen
from gixi_bluesky.processing.on_device import device_front
from gixi_bluesky.processing.pixels.counts import Dark, PixelCorrection
from gixi_bluesky.processing.pixels.masks import require_image
from gixi_bluesky.processing.pixels.noise import Noise
from gixi_bluesky.processing.pixels.outliers import Outliers, find_outliers
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import GivenPerFrame
from gixi_bluesky.processing.stages import StageTimes
from gixi_bluesky.processing.steps.loading import is_stateful, load_steps
from gixi_bluesky.processing.steps.running import run_step
from gixi_bluesky.processing.structures.cif_files import Structure, read_structures
from gixi_bluesky.processing.tables import TextureTable
from gixi_bluesky.processing.texture.hermans import texture_table
from gixi_bluesky.processing.types import CartesianImage, Cut, Detections, FrameResult, PolarImage
from gixi_bluesky.provenance import Provenance

if TYPE_CHECKING:
    from gixi_bluesky.processing.on_device.front import PreparedFrame
    from gixi_bluesky.processing.tracks.series import SeriesResult

__all__ = ["Pipeline", "PipelineSettings"]

_BATCH = 8
_SIDES_COMPARED_EVERY = 50
_SIDES_AGREE = 0.003
_RING = "texture "  # before the names of cuts that textures are made of
_MANY_OUTLIERS = 100  # cosmic rays strike a few pixels of most frames


@dataclass(frozen=True, slots=True)
class _Exposure:
    """The exposure of a frame: the dark of its run, and the number of summed exposures."""

    dark: Dark | None = None
    number: int = 1


@dataclass(slots=True)
class _Remapped:
    """One frame half way: remapped and made ready for the detector."""

    polar: PolarImage
    cartesian: CartesianImage | None
    prepared: NDArray[np.float32]
    incidence_angle_deg: float
    times: StageTimes = field(default_factory=StageTimes)
    warnings: tuple[str, ...] = ()
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    replaced: int = 0
    q_image: CartesianImage | None = None
    ready: PreparedFrame | None = None


class Pipeline:
    """Builds maps, loads weights and CIFs once, then turns frames into peaks and phases.

    tensors_on_cpu: compute on the CPU as on a GPU, for tests and benchmarks
    Raises GeometryError, WeightsError or StructureFileError when built from a wrong set-up.
    """

    def __init__(self, config: PipelineSettings, *, tensors_on_cpu: bool = False) -> None:
        self._config = config
        # Shape-free trial, so that an impossible geometry fails now and not at the first frame.
        if not config.geometry.changes_per_frame:
            geometry = Geometry.from_settings(config.geometry, None)
            geometry.require_q(config.grid.q_max_inv_angstrom)
        self._sources = sources(config.geometry, config.corrections)
        self.structures: tuple[Structure, ...] = read_structures(
            config.matching.cif, q_max=config.grid.q_max_inv_angstrom
        )
        self._match = Matcher(self.structures, config.matching)
        self.detector = load_detector(
            config.detector.weights,
            device=config.detector.device,
            engine=config.detector.engine,
            space=config.grid.space,
            tensors_on_cpu=tensors_on_cpu,
        )
        self._front = device_front(self.detector, config.corrections)
        rings = {f"{_RING}{name}": one.cut for name, one in config.textures.items()}
        self._maps = FrameMaps(config, {**config.cuts, **rings})
        self.steps = load_steps(config.steps)
        self._dark_pixels: dict[tuple[tuple[int, int], Dark], PixelCorrection] = {}
        self._frames = 0

    def __call__(
        self,
        frame: ArrayLike,
        incidence_angle_deg: float | None = None,
        *,
        dark: Dark | None = None,
        exposures: int = 1,
        conditions: Conditions | None = None,
        q_image: bool = False,
    ) -> FrameResult:
        """Analyse one frame: (rows, columns), any real dtype; None = the configuration's angle.

        dark: where the configuration takes it from the run
        exposures: how many the frame is the sum of, see `FrameSum`
        conditions: what differs from frame to frame, where the configuration does not fix it
        q_image: return the frame on (q_z, q_xy), too
        Raises FrameError for an image that cannot be analysed.
        """
        wanted = self._conditions(conditions or Conditions(), incidence_angle_deg)
        exposure = _Exposure(dark, exposures)
        remapped = self._remap(np.asarray(frame), wanted, exposure, q_image=q_image)
        return self._finish([remapped], first=0)[0]

    def batch(
        self,
        frames: ArrayLike,
        incidence_angle_deg: float | None = None,
        *,
        dark: Dark | None = None,
        conditions: Conditions | None = None,
    ) -> list[FrameResult]:
        """Analyse (n, rows, columns) frames of one set-up; the same results as one by one."""
        wanted = self._conditions(conditions or Conditions(), incidence_angle_deg)
        stack = np.asarray(frames)
        if stack.ndim != 3:
            message = f"got an array of shape {stack.shape}; expected (frames, rows, columns)"
            raise FrameError(message)
        results: list[FrameResult] = []
        for start in range(0, len(stack), _BATCH):
            chosen = stack[start : start + _BATCH]
            remapped = [self._remap(frame, wanted, _Exposure(dark)) for frame in chosen]
            results += self._finish(remapped, first=start)
        return results

    def cuts(self, frame: ArrayLike, incidence_angle_deg: float | None = None) -> dict[str, Cut]:
        """Return the configured cuts of one frame, without a search for peaks.

        frame: (rows, columns), any real dtype; None = the configuration's angle
        Raises FrameError for an image that cannot be analysed, GeometryError for an empty cut.
        """
        image = require_image(np.asarray(frame))
        conditions = self._conditions(Conditions(), incidence_angle_deg)
        maps = self._maps.of((image.shape[0], image.shape[1]), conditions)
        turned = orient(image, self._config.geometry)
        found = _cut(maps, turned, maps.remapper(turned), conditions, (None, 1))
        return {name: found[name] for name in self._config.cuts}

    def series(
        self,
        frames: Iterable[ArrayLike],
        times: Sequence[float] | None = None,
        incidence_angle_deg: float | None = None,
    ) -> SeriesResult:
        """Analyse the frames of one film in their order, and follow its peaks and phases.

        times: of the frames, in any unit; onsets are then given as times, too
        Raises FrameError for an image that cannot be analysed.
        """
        # Imported late: pandas takes half a second, which analysis processes do without.
        from gixi_bluesky.processing.tracks.series import follow
        from gixi_bluesky.processing.tracks.sum_phases import PhaseLines
        from gixi_bluesky.processing.tracks.sum_search import search_of_means
        from gixi_bluesky.processing.tracks.sums import SumTracks

        results = [
            replace(self(frame, incidence_angle_deg), index=index)
            for index, frame in enumerate(frames)
        ]
        if times is not None and len(times) != len(results):
            message = f"got {len(times)} times for {len(results)} frames; expected one for each"
            raise FrameError(message)
        if self._config.matching.temporal_prior:
            tables = remembered((one.match_table for one in results), len(self.structures))
            results = [
                replace(one, match_table=table) for one, table in zip(results, tables, strict=True)
            ]
        sums_of = self._config.tracks.sums_of if self._config.grid.space == "polar" else 0
        search = search_of_means(self.detector, self._config.detector)
        sums = SumTracks(search, sums_of) if sums_of else None
        lines = [PhaseLines.of(one.slug, one.reflections) for one in self.structures]
        return follow(results, times, sums, lines)

    @cached_property
    def provenance(self) -> Provenance:
        """Provenance of the results of this pipeline, and the device it runs on."""
        return provenance_of(self._config, self.detector, self.structures, self.steps)

    def remapper(self, shape: tuple[int, int], conditions: Conditions | None = None) -> Remapper:
        """Return the maps onto the grid for frames of `shape` under conditions."""
        return self._maps.of(shape, self._conditions(conditions or Conditions())).remapper

    @property
    def maps_built(self) -> int:
        """Number of times that maps were built: at first use, and when the geometry changes."""
        return self._maps.built

    def _conditions(self, given: Conditions, angle_deg: float | None = None) -> Conditions:
        """Return the conditions of a frame with `angle_deg`, or else the configured angle.

        Raises GeometryError when the configuration needs one that is missing.
        """
        if angle_deg is not None:
            given = replace(given, incidence_angle_deg=angle_deg)
        known = given.given()
        for name, source in self._sources.items():
            if name not in known:
                message = (
                    f"the configuration takes {name} from {source}; give {name} for a frame that "
                    "has none"
                )
                raise GeometryError(message)
        configured = self._config.geometry.incidence_angle_deg
        if given.incidence_angle_deg is None and isinstance(configured, float):
            return replace(given, incidence_angle_deg=configured)
        return given

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

    def _remap(
        self,
        frame: NDArray[Any],
        conditions: Conditions,
        exposure: _Exposure,
        *,
        q_image: bool = False,
    ) -> _Remapped:
        require_image(frame)
        times = StageTimes()
        rows, columns = frame.shape
        built = self.maps_built
        with times.timed("maps"):
            maps = self._maps.of((rows, columns), conditions)
        remapper = maps.remapper
        notes = maps.notes
        if self.maps_built == built:
            times, notes = times.without("maps"), ()
        with times.timed("remap"):
            turned, outliers = self._outliers(remapper, frame)
            how = self._pixels(remapper, exposure.dark), exposure.number
            ready = None
            if self._front is not None:
                corrections = outliers, how, conditions.monitor
                ready = self._front(remapper, turned, *corrections, q_image=q_image)
            if ready is None or maps.cuts is not None or self._sides_due:
                turned = outliers.replaced(turned)
            if ready is not None:
                polar, cartesian, on_q = ready.polar, ready.cartesian, ready.q_image
            else:
                polar, cartesian = remapper(turned, *how), remapper.cartesian(turned, *how)
                on_q = remapper.q_image(turned, *how) if q_image else None
        with times.timed("cuts"):
            cuts = _cut(maps, turned, polar, conditions, how)
        if not cuts:
            times = times.without("cuts")
        if conditions.monitor is not None and ready is None:
            polar = polar.over(conditions.monitor)
            cartesian = cartesian and cartesian.over(conditions.monitor)
            on_q = on_q and on_q.over(conditions.monitor)
        with times.timed("contrast"):
            searched = (cartesian or polar).intensity
            prepared = ready.prepared if ready else self.detector.prepare(searched)
        with times.timed("sides"):
            warnings = notes + self._compare_sides(remapper, turned) + _reported(len(outliers))
        angle = conditions.incidence_angle_deg or 0.0
        images = polar, cartesian, prepared, angle
        return _Remapped(*images, times, warnings, cuts, len(outliers), on_q, ready)

    def _outliers(self, remapper: Remapper, frame: NDArray[Any]) -> tuple[NDArray[Any], Outliers]:
        """Return the frame after `orient`, and the outliers that are to be replaced."""
        turned = orient(frame, self._config.geometry)
        if not self._config.corrections.replace_outliers:
            return turned, Outliers.none(turned)
        return turned, find_outliers(turned, remapper.masked)

    @property
    def _sides_due(self) -> bool:
        return self._frames % _SIDES_COMPARED_EVERY == 0

    def _compare_sides(self, remapper: Remapper, frame: NDArray[Any]) -> tuple[str, ...]:
        """Log a warning, at intervals, if rings lie at different |q| on both sides of the beam."""
        due = self._sides_due
        self._frames += 1
        if not due or self._config.grid.side != "fold":
            return ()
        difference = remapper.sides.difference(frame)
        if difference is None or abs(difference) < _SIDES_AGREE:
            return ()
        return (
            f"rings lie {difference:+.2%} in |q| on the right of the beam against the left, more "
            f"than {_SIDES_AGREE:.1%}: check the beam centre's column, or set grid.side",
        )

    def _finish(self, remapped: Sequence[_Remapped], first: int) -> list[FrameResult]:
        together = StageTimes()
        with together.timed("detect"):
            found = self._detect(remapped)
        share = together.shared(len(remapped))
        return [
            self._measure(one, detections, first + i, share)
            for i, (one, detections) in enumerate(zip(remapped, found, strict=True))
        ]

    def _detect(self, remapped: Sequence[_Remapped]) -> list[Detections]:
        ready = [one.ready for one in remapped if one.ready is not None]
        if self._front is not None and len(ready) == len(remapped):
            return self._front.detect(ready)
        for one in ready:
            one.wait()
        return self.detector(np.stack([(one.ready or one).prepared for one in remapped]))

    def _measure(
        self, one: _Remapped, detections: Detections, index: int, detecting: StageTimes
    ) -> FrameResult:
        settings = self._config.detector
        times = one.times | detecting
        with times.timed("measure"):
            kept = detections.above(settings.score_threshold, settings.max_peaks)
            peaks = surely_seen(measure(one.cartesian or one.polar, kept))
        with times.timed("match"):
            matches, match_peaks = self._match(peaks, one.polar)
        result = FrameResult(
            polar=one.polar,
            peak_table=peaks,
            match_table=matches,
            match_peak_table=match_peaks,
            incidence_angle_deg=one.incidence_angle_deg,
            seconds=times.wall,
            cpu_seconds=times.cpu,
            warnings=one.warnings,
            replaced_pixels=one.replaced,
            q_image=one.q_image,
            index=index,
            cartesian=one.cartesian,
            cuts={name: one.cuts[name] for name in self._config.cuts},
            texture_table=self._textures(one),
        )
        steps = [step for step in self.steps if not is_stateful(step)]
        return replace(result, step_rows={step.name: run_step(step, result) for step in steps})

    def _textures(self, one: _Remapped) -> TextureTable:
        settings = self._config.textures
        return texture_table(settings, {name: one.cuts[f"{_RING}{name}"] for name in settings})


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

"""The chain: remap → contrast → detect → measure → match, for one frame or a batch."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

import gixi_bluesky
from gixi_bluesky.errors import FrameError, GeometryError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processing.cuts.maps import CutMaps
from gixi_bluesky.processing.cuts.settings import Cuts
from gixi_bluesky.processing.detector import load_detector
from gixi_bluesky.processing.frame_setup import FrameSetup
from gixi_bluesky.processing.geometry.conditions import Conditions, sources
from gixi_bluesky.processing.geometry.instrument import (
    Geometry,
    calibration_of,
    orient,
    orientation_of,
)
from gixi_bluesky.processing.match.phases import Matcher
from gixi_bluesky.processing.measure.peaks import measure, surely_seen
from gixi_bluesky.processing.pixels.counts import Dark, PixelCorrection
from gixi_bluesky.processing.pixels.masks import require_image
from gixi_bluesky.processing.pixels.noise import Noise
from gixi_bluesky.processing.pixels.outliers import without_outliers
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import (
    CorrectionSettings,
    DarkStream,
    DetectorSettings,
    GeometrySettings,
    GridSettings,
    MatchingSettings,
)
from gixi_bluesky.processing.stages import StageTimes
from gixi_bluesky.processing.steps.loading import identity, is_stateful, load_steps
from gixi_bluesky.processing.steps.running import run_step
from gixi_bluesky.processing.steps.settings import Steps
from gixi_bluesky.processing.structures.cif_files import Structure, read_structures
from gixi_bluesky.processing.tables import TextureTable
from gixi_bluesky.processing.texture.orientation import texture_table
from gixi_bluesky.processing.texture.settings import Textures
from gixi_bluesky.processing.tracks.series import SeriesResult, follow
from gixi_bluesky.processing.tracks.settings import TrackSettings
from gixi_bluesky.processing.types import CartesianImage, Cut, Detections, FrameResult, PolarImage
from gixi_bluesky.provenance import Provenance, file_sha256, result_hash

__all__ = ["Pipeline", "PipelineSettings"]

# Maps of one incidence angle take about 20 MB; a scan of the angle visits its values in turn.
_REMAPPERS_KEPT = 8
_BATCH = 8
_SIDES_COMPARED_EVERY = 50
_SIDES_AGREE = 0.003
_RING = "texture "  # before the names of cuts that textures are made of
_MANY_OUTLIERS = 100  # cosmic rays strike a few pixels of most frames
_log = get_logger()


class PipelineSettings(Protocol):
    """The part of the configuration that the chain reads."""

    @property
    def geometry(self) -> GeometrySettings: ...  # noqa: D102
    @property
    def grid(self) -> GridSettings: ...  # noqa: D102
    @property
    def corrections(self) -> CorrectionSettings: ...  # noqa: D102
    @property
    def detector(self) -> DetectorSettings: ...  # noqa: D102
    @property
    def matching(self) -> MatchingSettings: ...  # noqa: D102
    @property
    def cuts(self) -> Cuts: ...  # noqa: D102
    @property
    def textures(self) -> Textures: ...  # noqa: D102
    @property
    def steps(self) -> Steps: ...  # noqa: D102
    @property
    def tracks(self) -> TrackSettings: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class _Exposure:
    """How a frame was taken: the dark that its run brought, and how many exposures it sums."""

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


class Pipeline:
    """Builds maps, loads weights and CIFs once, then turns frames into peaks and phases.

    Raises GeometryError, WeightsError or StructureFileError when built from a wrong set-up.
    """

    def __init__(self, config: PipelineSettings) -> None:
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
        )
        self._remappers: OrderedDict[tuple[tuple[int, int], Conditions], Remapper] = OrderedDict()
        rings = {f"{_RING}{name}": one.cut for name, one in config.textures.items()}
        self._cuts = {**config.cuts, **rings}
        self.steps = load_steps(config.steps)
        self._cut_maps: dict[tuple[tuple[int, int], Conditions], CutMaps] = {}
        self._dark_pixels: dict[tuple[tuple[int, int], Dark], PixelCorrection] = {}
        self.maps_built = 0
        self._frames = 0

    def __call__(
        self,
        frame: ArrayLike,
        incidence_angle_deg: float | None = None,
        *,
        dark: Dark | None = None,
        exposures: int = 1,
        conditions: Conditions | None = None,
    ) -> FrameResult:
        """Analyse one frame: (rows, columns), any real dtype; None = the configuration's angle.

        dark: where the configuration takes it from the run
        exposures: how many the frame is the sum of, see `FrameSum`
        conditions: what differs from frame to frame, where the configuration does not fix it
        Raises FrameError for an image that cannot be analysed.
        """
        wanted = self._conditions(conditions or Conditions(), incidence_angle_deg)
        remapped = self._remap(np.asarray(frame), wanted, _Exposure(dark, exposures))
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
        remapper = self.remapper((image.shape[0], image.shape[1]), conditions)
        turned = orient(image, self._config.geometry)
        found = self._cut(turned, remapper(turned), conditions, (None, 1))
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
        results = [
            replace(self(frame, incidence_angle_deg), index=index)
            for index, frame in enumerate(frames)
        ]
        if times is not None and len(times) != len(results):
            message = f"got {len(times)} times for {len(results)} frames; expected one for each"
            raise FrameError(message)
        return follow(results, times)

    @cached_property
    def provenance(self) -> Provenance:
        """What decides the results of this pipeline, and what it ran on."""
        config, poni, mask = self._config, self._config.geometry.poni, self._config.geometry.mask
        cifs = {s.slug: s.sha256 for s in self.structures}
        geometry = config.geometry.model_dump(mode="json", exclude={"poni", "nexus", "mask"})
        calibration = calibration_of(config.geometry) if config.geometry.nexus else None
        nexus_sha256 = calibration.sha256 if calibration else None
        poni_sha256 = file_sha256(poni) if poni else None
        mask_sha256 = file_sha256(mask) if mask else None
        corrections = config.corrections
        files = {"dark": corrections.dark_file, "flat": corrections.flat}
        correction_sha256 = {name: file_sha256(path) for name, path in files.items() if path}
        deciding = {
            "geometry": geometry,
            "poni_sha256": poni_sha256,
            "nexus_sha256": nexus_sha256,
            "mask_sha256": mask_sha256,
            "grid": config.grid.model_dump(mode="json"),
            "corrections": corrections.model_dump(mode="json", exclude={"dark", "flat"}),
            # Its content is that of the raw run, whose uid decides too.
            "dark_stream": corrections.dark.model_dump(mode="json")
            if isinstance(corrections.dark, DarkStream)
            else None,
            "correction_sha256": correction_sha256,
            "detector": config.detector.model_dump(
                mode="json", exclude={"weights", "device", "engine"}
            ),
            "precision": self.detector.precision,
            "weights_sha256": self.detector.sha256,
            "matching": config.matching.model_dump(mode="json", exclude={"cif"}),
            "cif_sha256": cifs,
            "cuts": {name: cut.model_dump(mode="json") for name, cut in config.cuts.items()},
            "textures": {
                name: one.model_dump(mode="json") for name, one in config.textures.items()
            },
            "tracks": config.tracks.model_dump(mode="json"),
            "steps": [
                identity(settings, step)
                for settings, step in zip(config.steps, self.steps, strict=True)
            ],
        }
        return Provenance(
            version=gixi_bluesky.__version__,
            result_hash=result_hash(deciding),
            config=_as_json(config),
            geometry=geometry,
            weights_name=self.detector.name,
            weights_sha256=self.detector.sha256,
            cif_sha256=cifs,
            mask_sha256=mask_sha256,
            poni_sha256=poni_sha256,
            nexus_sha256=nexus_sha256,
            correction_sha256=correction_sha256,
            device=self.detector.device,
            engine=self.detector.engine,
        )

    def remapper(self, shape: tuple[int, int], conditions: Conditions | None = None) -> Remapper:
        """Return the maps for frames of `shape` under conditions; built at first use, then kept.

        `maps_built` counts how often they had to be built.
        """
        wanted = self._conditions(conditions or Conditions()).rounded()
        key = (shape, wanted)
        if key in self._remappers:
            self._remappers.move_to_end(key)
            return self._remappers[key]
        began = time.perf_counter()
        setup = FrameSetup.of(self._config.geometry, self._config.corrections, shape, wanted)
        remapper = Remapper(
            setup.geometry,
            self._config.grid,
            self._config.corrections,
            setup.shape,
            setup.mask,
            setup.pixels,
            # In a scan of the geometry each frame would leave maps that none looks for again.
            stored=not self._config.geometry.changes_per_frame,
        )
        if self._cuts:
            self._cut_maps[key] = CutMaps(
                self._cuts,
                setup.geometry,
                self._config.grid,
                self._config.corrections,
                setup.valid,
                setup.pixels,
            )
        self.maps_built += 1
        _log.info(
            "maps_built",
            seconds=round(time.perf_counter() - began, 3),
            built=self.maps_built,
            **wanted.given(),
        )
        self._remappers[key] = remapper
        while len(self._remappers) > _REMAPPERS_KEPT:
            oldest, _ = self._remappers.popitem(last=False)
            self._cut_maps.pop(oldest, None)
        return remapper

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
                    f"the configuration takes {name} from {source.from_!r} of the run's "
                    f"documents; give {name} for a frame that has none"
                )
                raise GeometryError(message)
        configured = self._config.geometry.incidence_angle_deg
        if given.incidence_angle_deg is None and isinstance(configured, float):
            return replace(given, incidence_angle_deg=configured)
        return given

    def _pixels(self, remapper: Remapper, dark: Dark | None) -> PixelCorrection | None:
        """Return the correction by the dark that the run brought, None for that of the files."""
        if not isinstance(self._config.corrections.dark, DarkStream):
            return None
        if dark is None or remapper.pixels is None:
            message = (
                f"the configuration takes the dark from the stream "
                f"{self._config.corrections.dark.stream!r} of the run; give dark for a frame"
            )
            raise FrameError(message)
        key = (remapper.shape, dark)
        if key not in self._dark_pixels:
            turn = orientation_of(self._config.geometry)
            # One at a time: runs come one after the other, mostly.
            self._dark_pixels = {key: remapper.pixels.with_dark(dark, turn.apply)}
        return self._dark_pixels[key]

    def _remap(self, frame: NDArray[Any], conditions: Conditions, exposure: _Exposure) -> _Remapped:
        require_image(frame)
        times = StageTimes()
        rows, columns = frame.shape
        built = self.maps_built
        with times.timed("maps"):
            remapper = self.remapper((rows, columns), conditions)
        if self.maps_built == built:
            times = times.without("maps")
        with times.timed("remap"):
            turned, replaced = self._without_outliers(remapper, frame)
            how = self._pixels(remapper, exposure.dark), exposure.number
            polar, cartesian = remapper(turned, *how), remapper.cartesian(turned, *how)
        with times.timed("cuts"):
            cuts = self._cut(turned, polar, conditions, how)
        if not cuts:
            times = times.without("cuts")
        if conditions.monitor is not None:
            polar = polar.over(conditions.monitor)
            cartesian = cartesian and cartesian.over(conditions.monitor)
        with times.timed("contrast"):
            prepared = self.detector.prepare((cartesian or polar).intensity)
        with times.timed("sides"):
            warnings = self._compare_sides(remapper, turned) + _reported(replaced)
        angle = conditions.incidence_angle_deg or 0.0
        return _Remapped(polar, cartesian, prepared, angle, times, warnings, cuts, replaced)

    def _without_outliers(
        self, remapper: Remapper, frame: NDArray[Any]
    ) -> tuple[NDArray[Any], int]:
        """Return the frame after `orient`, and how many of its pixels were replaced."""
        turned = orient(frame, self._config.geometry)
        if not self._config.corrections.replace_outliers:
            return turned, 0
        return without_outliers(turned, remapper.masked)

    def _cut(
        self,
        turned: NDArray[Any],
        polar: PolarImage,
        conditions: Conditions,
        how: tuple[PixelCorrection | None, int],
    ) -> dict[str, Cut]:
        """Return the configured cuts of a frame after `orient`; the noise is the polar image's."""
        if not self._cuts:
            return {}
        shape = orientation_of(self._config.geometry).inverse.shape(turned.shape)
        maps = self._cut_maps[shape, conditions.rounded()]
        cuts = maps(turned, Noise(polar.gain, polar.readout_noise**2), *how)
        if conditions.monitor is None:
            return cuts
        return {name: cut.over(conditions.monitor) for name, cut in cuts.items()}

    def _compare_sides(self, remapper: Remapper, frame: NDArray[Any]) -> tuple[str, ...]:
        """Warn, now and then, if rings do not lie at the same |q| on both sides of the beam."""
        due = self._frames % _SIDES_COMPARED_EVERY == 0
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
            found = self.detector(np.stack([one.prepared for one in remapped]))
        share = together.shared(len(remapped))
        return [
            self._measure(one, detections, first + i, share)
            for i, (one, detections) in enumerate(zip(remapped, found, strict=True))
        ]

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


def _reported(replaced: int) -> tuple[str, ...]:
    if replaced < _MANY_OUTLIERS:
        return ()
    return (
        f"{replaced} pixels far above all their neighbours were replaced by these; `gixi-bluesky "
        "mask` makes a mask of hot pixels from some frames",
    )


def _as_json(config: PipelineSettings) -> dict[str, Any]:
    dump = getattr(config, "model_dump", None)
    if dump is not None:
        return dict(dump(mode="json", by_alias=True))
    parts = ("geometry", "grid", "corrections", "detector", "matching")
    return {part: getattr(config, part).model_dump(mode="json", by_alias=True) for part in parts}

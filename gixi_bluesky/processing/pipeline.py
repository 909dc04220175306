"""The chain: remap → contrast → detect → measure → match, for one frame or a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from gixi_bluesky.errors import FrameError
from gixi_bluesky.processing.configuration import PipelineSettings, provenance_of
from gixi_bluesky.processing.detector import load_detector
from gixi_bluesky.processing.front.frame_conditions import FrameConditions
from gixi_bluesky.processing.front.frame_front import Exposure, Front, ReadyFrame
from gixi_bluesky.processing.geometry.conditions import Conditions
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.match.phases import Matcher
from gixi_bluesky.processing.match.temporal_prior import remembered
from gixi_bluesky.processing.measure.peaks import measure, surely_seen
from gixi_bluesky.processing.pixels.counts import Dark
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.stages import StageTimes
from gixi_bluesky.processing.steps.loading import is_stateful, load_steps
from gixi_bluesky.processing.steps.running import run_step
from gixi_bluesky.processing.structures.cif_files import Structure, read_structures
from gixi_bluesky.processing.tables import TextureTable
from gixi_bluesky.processing.texture.hermans import texture_table
from gixi_bluesky.processing.types import Cut, Detections, FrameResult
from gixi_bluesky.provenance import Provenance

if TYPE_CHECKING:
    from gixi_bluesky.processing.tracks.series import SeriesResult

__all__ = ["Pipeline", "PipelineSettings"]

_BATCH = 8
_RING = "texture "  # before the names of cuts that textures are made of


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
        self._conditions = FrameConditions(config.geometry, config.corrections)
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
        rings = {f"{_RING}{name}": one.cut for name, one in config.textures.items()}
        self._front = Front(config, self.detector, {**config.cuts, **rings})
        self.steps = load_steps(config.steps)

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
        wanted = self._conditions.of(conditions, incidence_angle_deg)
        exposure = Exposure(dark, exposures)
        ready = self._front(np.asarray(frame), wanted, exposure, q_image=q_image)
        return self._finish([ready], first=0)[0]

    def batch(
        self,
        frames: ArrayLike,
        incidence_angle_deg: float | None = None,
        *,
        dark: Dark | None = None,
        conditions: Conditions | None = None,
    ) -> list[FrameResult]:
        """Analyse (n, rows, columns) frames of one set-up; the same results as one by one."""
        wanted = self._conditions.of(conditions, incidence_angle_deg)
        stack = np.asarray(frames)
        if stack.ndim != 3:
            message = f"got an array of shape {stack.shape}; expected (frames, rows, columns)"
            raise FrameError(message)
        results: list[FrameResult] = []
        for start in range(0, len(stack), _BATCH):
            chosen = stack[start : start + _BATCH]
            ready = [self._front(frame, wanted, Exposure(dark)) for frame in chosen]
            results += self._finish(ready, first=start)
        return results

    def cuts(self, frame: ArrayLike, incidence_angle_deg: float | None = None) -> dict[str, Cut]:
        """Return the configured cuts of one frame, without a search for peaks.

        frame: (rows, columns), any real dtype; None = the configuration's angle
        Raises FrameError for an image that cannot be analysed, GeometryError for an empty cut.
        """
        wanted = self._conditions.of(None, incidence_angle_deg)
        found = self._front.cuts(np.asarray(frame), wanted)
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
        return self._front.remapper(shape, self._conditions.of(conditions))

    @property
    def maps_built(self) -> int:
        """Number of times that maps were built: at first use, and when the geometry changes."""
        return self._front.maps_built

    def _finish(self, ready: Sequence[ReadyFrame], first: int) -> list[FrameResult]:
        together = StageTimes()
        with together.timed("detect"):
            found = self._front.detect(ready)
        share = together.shared(len(ready))
        return [
            self._measure(one, detections, first + i, share)
            for i, (one, detections) in enumerate(zip(ready, found, strict=True))
        ]

    def _measure(
        self, one: ReadyFrame, detections: Detections, index: int, detecting: StageTimes
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

    def _textures(self, one: ReadyFrame) -> TextureTable:
        settings = self._config.textures
        return texture_table(settings, {name: one.cuts[f"{_RING}{name}"] for name in settings})

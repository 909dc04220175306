"""The maps that frames of one size and one set of conditions share, built once and cached."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.log import get_logger
from gixi_bluesky.processing.configuration import PipelineSettings
from gixi_bluesky.processing.cuts.maps import CutMaps
from gixi_bluesky.processing.cuts.settings import CutSettings
from gixi_bluesky.processing.geometry.calibration import binning_note, orientation_of
from gixi_bluesky.processing.geometry.conditions import Conditions
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.pixels.counts import PixelCorrection
from gixi_bluesky.processing.pixels.masks import load_mask, mask_warning
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings, GeometrySettings

__all__ = ["FrameMaps", "FrameSetup", "Maps"]

# Maps of one incidence angle take about 20 MB; a scan of the angle visits its values in turn.
_KEPT = 8
_log = get_logger()


@dataclass(frozen=True, slots=True)
class FrameSetup:
    """The geometry, mask and pixel corrections of frames after `orient`.

    shape: (rows, columns)
    mask: (rows, columns), True = masked; None = no mask
    notes: what a user should know, one sentence each
    """

    geometry: Geometry
    shape: tuple[int, int]
    mask: NDArray[np.bool_] | None
    pixels: PixelCorrection | None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        settings: GeometrySettings,
        corrections: CorrectionSettings,
        shape: tuple[int, int],
        conditions: Conditions | None = None,
    ) -> FrameSetup:
        """Read the files that the settings name; `shape` is that of the array as read.

        Raises GeometryError for files and values that cannot be used.
        """
        turn = orientation_of(settings)
        named, corner = settings.mask_file, settings.roi_offset_px
        mask = None if named is None else turn.apply(load_mask(named, shape, corner))
        geometry = _geometry(settings, corrections, shape, conditions)
        pixels = PixelCorrection.from_settings(corrections, shape, turn.apply, corner)
        notes = (binning_note(settings, shape), None if mask is None else mask_warning(mask))
        return cls(geometry, turn.shape(shape), mask, pixels, tuple(filter(None, notes)))

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(rows, columns), True where a pixel is not masked and its dark and flat are known."""
        valid = np.ones(self.shape, bool) if self.mask is None else ~self.mask
        return valid if self.pixels is None else valid & self.pixels.usable


@dataclass(frozen=True, slots=True)
class Maps:
    """The maps of a set-up: onto the grid, and into the bins of the cuts where there are any.

    notes: what a user should know of the set-up, one sentence each
    """

    remapper: Remapper
    cuts: CutMaps | None
    notes: tuple[str, ...] = ()


class FrameMaps:
    """Builds maps at first use and keeps the last few.

    cuts: by name, those of the configuration and those that textures need
    built: how often maps had to be built
    """

    def __init__(self, config: PipelineSettings, cuts: Mapping[str, CutSettings]) -> None:
        self._config = config
        self._cuts = cuts
        self._kept: OrderedDict[tuple[tuple[int, int], Conditions], Maps] = OrderedDict()
        self._setup: tuple[tuple[int, int], FrameSetup] | None = None
        self.built = 0

    def of(self, shape: tuple[int, int], conditions: Conditions) -> Maps:
        """Return the maps for arrays of `shape` as read, under the conditions of their frame.

        Raises GeometryError for files and values that cannot be used.
        """
        wanted = conditions.rounded()
        key = (shape, wanted)
        if key not in self._kept:
            began = time.perf_counter()
            self._kept[key] = self._build(shape, wanted)
            self.built += 1
            seconds = round(time.perf_counter() - began, 3)
            for note in self._kept[key].notes:
                _log.warning("setup_doubtful", reason=note)
            _log.info("maps_built", seconds=seconds, built=self.built, **wanted.given())
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]

    def _build(self, shape: tuple[int, int], conditions: Conditions) -> Maps:
        config, corrections = self._config, self._config.corrections
        setup = self._setup_of(shape, conditions)
        remapper = Remapper(
            setup.geometry,
            config.grid,
            corrections,
            setup.shape,
            setup.mask,
            setup.pixels,
            # In a scan of the geometry each frame would store maps that are never reused.
            stored=not config.geometry.changes_per_frame,
        )
        if not self._cuts:
            return Maps(remapper, None, setup.notes)
        cuts = CutMaps(
            self._cuts,
            setup.geometry,
            config.grid,
            corrections,
            setup.valid,
            setup.pixels,
            changing=bool(config.geometry.changes_per_frame),
        )
        return Maps(remapper, cuts, setup.notes)

    def _setup_of(self, shape: tuple[int, int], conditions: Conditions) -> FrameSetup:
        """Return the set-up of a frame; mask, dark and flat are read once, not at every angle."""
        config = self._config
        if self._setup is None or self._setup[0] != shape:
            setup = FrameSetup.of(config.geometry, config.corrections, shape, conditions)
            self._setup = shape, setup
            return setup
        geometry = _geometry(config.geometry, config.corrections, shape, conditions)
        return replace(self._setup[1], geometry=geometry)


def _geometry(
    settings: GeometrySettings,
    corrections: CorrectionSettings,
    shape: tuple[int, int],
    conditions: Conditions | None,
) -> Geometry:
    geometry = Geometry.from_settings(settings, shape, conditions)
    if corrections.critical_angle_deg is None:
        return geometry
    return geometry.with_critical_angle(corrections.critical_angle_deg)

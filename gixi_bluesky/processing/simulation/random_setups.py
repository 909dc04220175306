"""Geometries, panels and grids drawn at random."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.geometry.grids import CartesianGrid, Space
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings, GridSettings
from gixi_bluesky.processing.simulation.cartesian_truth import CartesianObserver
from gixi_bluesky.processing.simulation.panel import Panel
from gixi_bluesky.processing.simulation.random_films import log_uniform
from gixi_bluesky.processing.simulation.render import Renderer
from gixi_bluesky.processing.simulation.truth import Observer

__all__ = ["DrawnSetup", "random_setup"]


@dataclass(frozen=True, slots=True)
class DrawnSetup:
    """The set-up of a frame, and what is known of it."""

    renderer: Renderer
    panel: Panel
    remapper: Remapper
    observer: Observer | CartesianObserver


def random_setup(rng: np.random.Generator, shape: tuple[int, int], space: Space) -> DrawnSetup:
    """Draw a flat panel or modules, the beam in a corner or in the middle of the lower edge."""
    modules = rng.random() < 0.6
    if modules:
        size, pixel = (1043, 981), 0.172e-3
    else:
        size, pixel = (1024, 1024), 0.4e-3
    row = rng.uniform(0.03, 0.4) * size[0]
    column = rng.uniform(0.02, 0.35 if rng.random() < 0.5 else 0.6) * size[1]
    # The distance follows from how far in q the far corner shall reach.
    wavelength = 12.398 / rng.uniform(8.0, 25.0)
    reach = min(rng.uniform(1.6, 5.0), 1.3 * 2 * np.pi / wavelength)
    angle = 2 * math.asin(min(reach * wavelength / (4 * math.pi), 0.6))
    corner = pixel * math.hypot(size[0] - row, max(column, size[1] - column))
    geometry = Geometry(
        wavelength_angstrom=wavelength,
        distance_m=corner / math.tan(angle),
        pixel_size_m=(pixel, pixel),
        poni_m=((row + 0.5) * pixel, (column + 0.5) * pixel),
        incidence_angle_rad=math.radians(rng.uniform(0.08, 0.6)),
        critical_angle_rad=math.radians(rng.uniform(0.08, 0.3)) if rng.random() < 0.6 else 0.0,
    )
    stop = (row, column, rng.uniform(8, 30)) if rng.random() < 0.6 else None
    panel = Panel(
        modules=(195, 487) if modules else None,
        missing=_missing(rng) if modules else (),
        beam_stop=stop,
        readout_noise=None if modules else float(rng.uniform(1.0, 30.0)),
        dead=log_uniform(rng, 1e-6, 1e-3),
        hot=log_uniform(rng, 1e-7, 1e-4),
        zingers=log_uniform(rng, 0.1, 30.0),
        seed=int(rng.integers(1 << 31)),
    )
    renderer = Renderer(geometry, size)
    grid = GridSettings(
        space=space,
        q_max_inv_angstrom=min(rng.uniform(0.7, 1.05) * reach, 2 * geometry.wavenumber),
        shape=shape,
        side=str(rng.choice(["fold", "fold", "fold", "right"])),
    )
    # The remap does not correct for refraction, as at most beamlines.
    mask = panel.mask(size) if rng.random() < 0.5 else None
    remapper = Remapper(renderer.unrefracted, grid, CorrectionSettings(), size, mask)
    return DrawnSetup(renderer, panel, remapper, _observer(renderer, panel, remapper, grid, mask))


def _observer(
    renderer: Renderer,
    panel: Panel,
    remapper: Remapper,
    grid: GridSettings,
    mask: NDArray[np.bool_] | None,
) -> Observer | CartesianObserver:
    if grid.space == "cartesian":
        searched = CartesianGrid(grid.q_max_inv_angstrom, grid.shape, grid.side)
        return CartesianObserver(renderer, panel, searched, mask)
    return Observer(renderer, panel, remapper.grid.q, remapper.grid.phi, mask, grid.side)


def _missing(rng: np.random.Generator) -> tuple[tuple[int, int], ...]:
    """Draw which of the 5 x 2 modules are not there: mostly none."""
    if rng.random() < 0.75:
        return ()
    return tuple((int(rng.integers(5)), int(rng.integers(2))) for _ in range(rng.integers(1, 3)))

"""Frames drawn at random for training and evaluation; the same seed gives the same frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.processing.geometry.grids import CartesianGrid, Space
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings, GridSettings
from gixi_bluesky.processing.simulation.cartesian_truth import CartesianObserver
from gixi_bluesky.processing.simulation.panel import Panel, record
from gixi_bluesky.processing.simulation.render import Renderer
from gixi_bluesky.processing.simulation.scene import Halo, Phase, Rod, Scene, Streak
from gixi_bluesky.processing.simulation.texture import Texture
from gixi_bluesky.processing.simulation.truth import Observer, Truth
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.structures.reflections import Lines, powder_lines
from gixi_bluesky.processing.types import CartesianImage, PolarImage

__all__ = ["FRAMES_PER_SEED", "SimulatedFrame", "random_frames", "random_structure"]

_ELEMENTS = ("C", "N", "O", "S", "Br", "I", "Pb", "Sn", "Cs", "Zn", "Ti")
_MOST_LINES = 40
FRAMES_PER_SEED = 8


@dataclass(frozen=True, slots=True)
class SimulatedFrame:
    """One exposure, what the product makes of it, and what there is to find there.

    cartesian: the image that the truth is about, None where it is about the polar one
    """

    counts: NDArray[Any]
    polar: PolarImage
    truth: Truth
    cartesian: CartesianImage | None = None

    @property
    def intensity(self) -> NDArray[np.float32]:
        """(rows, columns) of the image that is searched, NaN = no data."""
        return (self.cartesian or self.polar).intensity


@dataclass(frozen=True, slots=True)
class _Setup:
    renderer: Renderer
    panel: Panel
    remapper: Remapper
    observer: Observer | CartesianObserver


@dataclass(frozen=True, slots=True)
class _Film:
    """The distribution of films that are drawn.

    textures: chances of powder, fibre, both mixed, and single grains on a powder
    counts: of a powder's strongest line over the noise, from … to; spots gather a ring's on top
    mosaic_deg: of the fibres, from … to; round_spots: as in Phase; rods: how often there are some
    """

    textures: tuple[float, float, float, float]
    counts: tuple[float, float]
    mosaic_deg: tuple[float, float]
    round_spots: bool
    rods: float


_FILMS: dict[Space, _Film] = {
    "polar": _Film((0.3, 0.4, 0.15, 0.15), (0.3, 150.0), (0.7, 30.0), round_spots=False, rods=0.0),
    "cartesian": _Film(
        (0.1, 0.65, 0.15, 0.1), (0.1, 40.0), (0.3, 6.0), round_spots=True, rods=0.25
    ),
}


def random_frames(
    seed: int,
    structures: Sequence[Structure] = (),
    shape: tuple[int, int] = (512, 1024),
    count: int = FRAMES_PER_SEED,
    space: Space = "polar",
) -> Iterator[SimulatedFrame]:
    """Yield `count` frames of one random set-up; `structures` are mixed with random lattices.

    shape, space: of the grid that is searched; on the cartesian one the films are more like
        single crystals
    """
    rng = np.random.default_rng(seed)
    setup = _setup(rng, shape, space)
    for _ in range(count):
        scene = _scene(rng, setup, structures, _FILMS[space])
        counts = record(setup.renderer.expected(scene), setup.panel, rng)
        polar, cartesian = setup.remapper(counts), setup.remapper.cartesian(counts)
        yield SimulatedFrame(counts, polar, setup.observer.truth(scene), cartesian)


def random_structure(rng: np.random.Generator, q_max: float) -> Structure:
    """Return a lattice of random system, size and atoms, with structure factors."""
    system = rng.choice(["cubic", "tetragonal", "hexagonal", "orthorhombic", "monoclinic"])
    group = {
        "cubic": ("P m -3 m", "F m -3 m", "I m -3 m"),
        "tetragonal": ("P 4/m m m", "I 4/m m m"),
        "hexagonal": ("P 6/m m m", "P -3 m 1"),
        "orthorhombic": ("P m m m", "C m m m", "P n m a"),
        "monoclinic": ("P 1 2/m 1", "P 1 21/c 1"),
    }[str(system)]
    a, b, c = np.exp(rng.uniform(np.log(3.8), np.log(16.0), 3))
    beta = rng.uniform(92, 112) if system == "monoclinic" else 90.0
    lengths = {
        "cubic": (a, a, a, 90.0),
        "tetragonal": (a, a, c, 90.0),
        "hexagonal": (a, a, c, 120.0),
        "orthorhombic": (a, b, c, 90.0),
        "monoclinic": (a, b, c, 90.0),
    }[str(system)]
    small = gemmi.SmallStructure()
    small.cell = gemmi.UnitCell(*lengths[:3], 90.0, beta, lengths[3])
    small.spacegroup = gemmi.SpaceGroup(str(rng.choice(group)))
    for _ in range(int(rng.integers(1, 5))):
        site = gemmi.SmallStructure.Site()
        site.element = gemmi.Element(str(rng.choice(_ELEMENTS)))
        site.fract = gemmi.Fractional(*rng.uniform(0, 1, 3))
        site.u_iso = float(rng.uniform(0.01, 0.06))
        small.add_site(site)
    small.setup_cell_images()
    lines = _strongest(powder_lines(small, q_max))
    return Structure("random", "random", "", tuple(small.cell.parameters), lines)


def _strongest(lines: Lines) -> Lines:
    keep = np.sort(np.argsort(-lines.intensity)[:_MOST_LINES])
    return Lines(
        q=lines.q[keep],
        hkl=lines.hkl[keep],
        intensity=lines.intensity[keep],
        multiplicity=lines.multiplicity[keep],
        families=tuple(lines.families[i] for i in keep),
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))


def _setup(rng: np.random.Generator, shape: tuple[int, int], space: Space) -> _Setup:
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
        dead=_log_uniform(rng, 1e-6, 1e-3),
        hot=_log_uniform(rng, 1e-7, 1e-4),
        zingers=_log_uniform(rng, 0.1, 30.0),
        seed=int(rng.integers(1 << 31)),
    )
    renderer = Renderer(geometry, size)
    grid = GridSettings(
        space=space,
        q_max_inv_angstrom=min(rng.uniform(0.7, 1.05) * reach, 2 * geometry.wavenumber),
        shape=shape,
        side=str(rng.choice(["fold", "fold", "fold", "right"])),
    )
    # The analysis does not correct the refraction, as at most beamlines.
    mask = panel.mask(size) if rng.random() < 0.5 else None
    remapper = Remapper(renderer.unrefracted, grid, CorrectionSettings(), size, mask)
    return _Setup(renderer, panel, remapper, _observer(renderer, panel, remapper, grid, mask))


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


def _scene(
    rng: np.random.Generator, setup: _Setup, structures: Sequence[Structure], film: _Film
) -> Scene:
    q_max = float(setup.renderer.q[-1])
    flat = _log_uniform(rng, 0.05, 30.0)
    count = int(rng.choice([0, 1, 2, 3, 4], p=[0.12, 0.38, 0.28, 0.14, 0.08]))
    noise = math.sqrt(flat + (setup.panel.readout_noise or 0.0) ** 2 + 1.0)
    return Scene(
        phases=tuple(_phase(rng, q_max, structures, noise, film) for _ in range(count)),
        halos=tuple(_halo(rng, q_max, flat) for _ in range(int(rng.integers(0, 5)))),
        streaks=tuple(_streaks(rng, flat)),
        air=flat * _log_uniform(rng, 0.3, 60.0),
        flat=flat,
        reflected=_reflected(rng, setup.renderer.geometry),
        rods=tuple(_rods(rng, q_max, noise, film)),
    )


def _halo(rng: np.random.Generator, q_max: float, flat: float) -> Halo:
    """Draw a halo, always much broader than a line at the same |q|."""
    q = _log_uniform(rng, 0.1, min(q_max, 3.0))
    return Halo(
        q=q,
        fwhm_q=max(_log_uniform(rng, 0.12, 1.0) * q, 0.08),
        counts=flat * _log_uniform(rng, 0.1, 30.0),
        anisotropy=float(rng.uniform(-0.5, 0.5)),
    )


def _reflected(rng: np.random.Generator, geometry: Geometry) -> float:
    """Draw how bright the second peak is: notable only up to some twice the critical angle."""
    critical = geometry.critical_angle_rad
    if not critical or geometry.incidence_angle_rad < critical or rng.random() < 0.4:
        return 0.0
    return float(rng.uniform(0.05, 1.0) * (critical / geometry.incidence_angle_rad) ** 2)


def _streaks(rng: np.random.Generator, flat: float) -> Iterator[Streak]:
    if rng.random() < 0.35:
        yield Streak("specular", flat * _log_uniform(rng, 2, 300), float(rng.uniform(0.005, 0.03)))
    if rng.random() < 0.5:
        height = float(rng.uniform(0.0, 0.04))
        width = float(rng.uniform(0.008, 0.04))
        yield Streak("yoneda", flat * _log_uniform(rng, 1, 60), width, height)


def _rods(rng: np.random.Generator, q_max: float, noise: float, film: _Film) -> Iterator[Rod]:
    if not film.rods or rng.random() > film.rods:
        return
    for _ in range(int(rng.integers(1, 5))):
        fwhm_xy = _log_uniform(rng, 0.01, 0.06)
        yield Rod(
            q_xy=float(rng.uniform(0.1, 0.8) * q_max),
            q_z=float(rng.uniform(0.0, 0.5) * q_max),
            fwhm_xy=fwhm_xy,
            fwhm_z=fwhm_xy * _log_uniform(rng, 1.5, 12.0),
            counts=noise * _log_uniform(rng, 0.3, 50.0),
        )


def _phase(
    rng: np.random.Generator,
    q_max: float,
    structures: Sequence[Structure],
    noise: float,
    film: _Film,
) -> Phase:
    structure = _structure(rng, q_max, structures)
    return Phase(
        structure=structure,
        counts=noise * _log_uniform(rng, *film.counts),
        texture=_texture(rng, film),
        size_angstrom=_log_uniform(rng, 90.0, 1500.0),
        footprint=_log_uniform(rng, 0.001, 0.035),
        lattice_scale=float(rng.uniform(0.98, 1.02)),
        lorentzian=float(rng.choice([0.0, rng.uniform(0.0, 1.0)])),
        round_spots=film.round_spots,
    )


def _structure(
    rng: np.random.Generator, q_max: float, structures: Sequence[Structure]
) -> Structure:
    if structures and rng.random() < 0.4:
        known = structures[int(rng.integers(len(structures)))]
        return replace(known, reflections=_strongest(known.reflections))
    while True:
        drawn = random_structure(rng, q_max)
        if len(drawn.reflections):  # a small cell may have no line in so short a range
            return drawn


def _texture(rng: np.random.Generator, film: _Film) -> Texture:
    kind = rng.choice(["powder", "fibre", "mixed", "grains"], p=film.textures)
    contacts = [(h, k, el) for h, k, el in product(range(3), repeat=3) if h or k or el]
    contact = contacts[int(rng.integers(len(contacts)))]
    return Texture(
        contact=None if kind in ("powder", "grains") else contact,
        mosaic_deg=_log_uniform(rng, *film.mosaic_deg),
        powder_fraction=float(rng.uniform(0.1, 0.8)) if kind == "mixed" else 0.0,
        unevenness=float(rng.choice([0.0, rng.uniform(0.0, 0.5)])),
        grains=int(rng.integers(1, 5)) if kind == "grains" else 0,
        spot_deg=float(rng.uniform(0.5, 4.0)),
        seed=int(rng.integers(1 << 31)),
    )

"""Frames to time the chain with: a crystallised film on a flat panel, for any geometry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.config import Config, parse_config
from gixi_bluesky.demo.crystallisation import Crystallisation
from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing.geometry.calibration import orientation_of
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.simulation import Panel, Renderer, record
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs

__all__ = ["DETECTOR", "beamline", "require_free_size", "simulated_frames"]

DETECTOR = (2048, 2048)
_PANEL = Panel(readout_noise=3.0, dead=1e-4, hot=1e-6, zingers=3.0, seed=1)
_FILM, _GROWN_S = "MAPbBr3", 90.0
_LINES_TO = 4.0  # 1/angstrom


def beamline() -> Config:
    """Return a plausible set-up: 18 keV, 0.8 m, a flat panel, the default grid and detector."""
    tree = {
        "geometry": {
            "wavelength_angstrom": 0.6888,
            "distance_mm": 809.0,
            "pixel_size_mm": [0.2, 0.2],
            "beam_center_px": [222.0, 545.0],
            "incidence_angle_deg": 0.5,
            "flip": "vertical",
        },
        "grid": {"q_max_inv_angstrom": 3.9},
        "matching": {"cif": [str(path) for path in shipped_cifs().values()]},
    }
    return parse_config(tree, folder=Path(), source="the simulated beamline")


def require_free_size(config: Config) -> None:
    """Raise ConfigError if files of the configuration fix the size of the detector."""
    corrections, geometry = config.corrections, config.geometry
    files = {
        "geometry.mask": geometry.mask,
        "geometry.poni": geometry.poni,
        "geometry.nexus": geometry.nexus,
        "corrections.dark": corrections.dark_file,
        "corrections.flat": corrections.flat,
    }
    if given := [key for key, file in files.items() if file is not None]:
        message = (
            f"{' and '.join(given)} hold for one size of the detector, and the simulated one has "
            f"{DETECTOR[0]} x {DETECTOR[1]} pixels; give --image FILE"
        )
        raise ConfigError(message)


def simulated_frames(config: Config, count: int, shape: tuple[int, int] = DETECTOR) -> NDArray[Any]:
    """Return `count` exposures of one film, (count, *shape) float32, oriented as in files."""
    turn = orientation_of(config.geometry)
    renderer = Renderer(Geometry.from_settings(config.geometry, shape), turn.shape(shape))
    film = Crystallisation(read_structure(shipped_cifs()[_FILM], q_max=_LINES_TO))
    expected, rng = renderer.expected(film.scene(_GROWN_S)), np.random.default_rng(1)
    exposures = (record(expected, _PANEL, rng) for _ in range(count))
    return np.stack([turn.inverse.apply(one) for one in exposures])

"""Imported configurations: PONI files of pyFAI, NeXus files and the YAML of gixi."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gixi_bluesky.config import parse_config
from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.geometry.nexus_calibration import read_nexus
from gixi_bluesky.processing.geometry.poni import read_poni
from gixi_bluesky.processing.pixels.own_calibrations import read_own_calibrations
from gixi_bluesky.processing.settings import GeometrySettings

__all__ = ["import_config"]

Imported = tuple[dict[str, Any], list[str]]

_NEXUS = (".nxs", ".h5", ".hdf5", ".nx5")

# Keys of gixi that have another place here, or that the weights' manifest holds.
_GIXI_ELSEWHERE = {
    "cluster_config",
    "contrast",
    "general",
    "job_config",
    "log_config",
    "parallel",
    "program_paths_config",
    "save_config",
}
_GIXI_WEIGHTS = {
    "save_only_largest_2": "gixi-2022",
    "segments_detector_6": "gixi-2022-segments",
}
# Grid of networks that accept one image size only; phi in rows, q in columns.
_GRID = (512, 1024)


def import_config(file: Path, folder: Path) -> tuple[str, list[str]]:
    """Return (YAML, notes for the user) of a PONI or NeXus file or a configuration of gixi.

    file: FILE::GROUP names one of several detectors of a NeXus file
    Paths in the YAML are relative to `folder`. Raises ConfigError or GeometryError for a file that
    is none of them.
    """
    convert: Callable[[Path, Path], Imported]
    suffix = Path(str(file).partition("::")[0]).suffix.lower()
    convert = _from_calibration if suffix in (".poni", *_NEXUS) else _from_gixi
    tree, notes = convert(file, folder)
    parse_config(tree, folder=folder, source=f"what {file} means")
    header = "".join(f"# {note}\n" for note in (f"Imported from {file.name}.", *notes))
    return header + yaml.safe_dump(tree, sort_keys=False, default_flow_style=None), notes


def _from_calibration(file: Path, folder: Path) -> Imported:
    kind = "poni" if file.suffix.lower() == ".poni" else "nexus"
    poni = read_poni(file) if kind == "poni" else read_nexus(file)
    geometry: dict[str, Any] = {kind: os.path.relpath(file.absolute(), folder)}
    notes = []
    if poni.wavelength_angstrom is None:
        lacking = "the line `Wavelength: ` in metres" if kind == "poni" else "an NXbeam"
        message = f"{file} holds no wavelength; add {lacking} to it"
        raise ConfigError(message)
    flip = "none"
    grid: dict[str, Any] = {}
    if poni.detector_shape is None:
        notes.append("The file does not say how large the detector is: set grid and flip yourself.")
    else:
        flip = _flip_for({kind: file}, poni.detector_shape)
        grid["q_max_inv_angstrom"] = _q_max({kind: file}, flip, poni.detector_shape)
        notes.append(
            f"flip: {flip} puts the larger part of the detector above the beam; q_z must grow with "
            "the row."
        )
    geometry |= {"incidence_angle_deg": 0.0, "flip": flip}
    notes.append("A calibration has no incidence angle: set incidence_angle_deg.")
    corrections = _own_values(file, folder, geometry, notes) if kind == "nexus" else {}
    tree = {"geometry": geometry, "grid": grid}
    return (tree | {"corrections": corrections} if corrections else tree), notes


def _own_values(
    file: Path, folder: Path, geometry: dict[str, Any], notes: list[str]
) -> dict[str, Any]:
    """Add the detector's own mask to `geometry`, and return its flat field and count cutoff."""
    path = Path(str(file).partition("::")[0]).absolute()
    own = read_own_calibrations(path)
    corrections: dict[str, Any] = {}
    if own.mask:
        geometry["mask"] = _relative(own.mask, path, folder)
        notes.append("mask is the detector's own.")
    if own.flat:
        corrections["flat"] = _relative(own.flat, path, folder)
        notes.append("flat is the detector's own; the file does not say that it was applied.")
    if own.saturation:
        corrections["saturation"] = own.saturation
        notes.append("saturation is the count cutoff of the detector.")
    return corrections


def _relative(place: str, file: Path, folder: Path) -> str:
    """Return FILE::DATASET with the file relative to a folder."""
    dataset = place.partition("::")[2]
    return f"{os.path.relpath(file, folder)}::{dataset}"


def _flip_for(source: dict[str, Path], shape: tuple[int, int]) -> str:
    """Return the flip after which most of the detector lies above the beam."""
    settings = GeometrySettings.model_validate({**source, "flip": "none"})
    row, _ = Geometry.from_settings(settings, shape).beam_center_px
    return "vertical" if row > (shape[0] - 1) / 2 else "none"


def _q_max(source: dict[str, Path], flip: str, shape: tuple[int, int]) -> float:
    """Return the largest |q| of the detector's corners, 1/angstrom, to two digits."""
    settings = GeometrySettings.model_validate({**source, "flip": flip})
    rows, columns = np.meshgrid([0, shape[0] - 1], [0, shape[1] - 1])
    q_xy, q_z = Geometry.from_settings(settings, shape).q_at(rows, columns)
    return math.floor(float(np.hypot(q_xy, q_z).max()) * 100) / 100


def _from_gixi(file: Path, folder: Path) -> Imported:  # noqa: ARG001 - it names no files
    theirs = _gixi_tree(file)
    space = dict(theirs.pop("q_space"))
    polar = dict(theirs.pop("polar_config", {}))
    score = dict(theirs.pop("postprocessing_config", {}))
    matching = dict(theirs.pop("match_config", {}))
    name = dict(theirs.pop("model_config", {})).get("name", "save_only_largest_2")
    flips = {(True, False): "vertical", (False, True): "horizontal", (True, True): "both"}
    tree: dict[str, Any] = {
        "geometry": {
            "wavelength_angstrom": space.get("wavelength", 0.6888),
            "distance_mm": space.get("distance", 1000),
            "pixel_size_mm": [space.get("pixel_size", 0.2)] * 2,
            "beam_center_px": _beam_center(file, space),
            "incidence_angle_deg": space.get("incidence_angle", 0.5),
            "flip": flips.get((space.get("flip_y", True), space.get("flip_x", False)), "none"),
        },
        "grid": {
            "q_max_inv_angstrom": round(
                math.hypot(space.get("q_xy_max", 2.7), space.get("q_z_max", 2.7)), 4
            ),
            "shape": [polar.get("angular_size", _GRID[0]), polar.get("q_size", _GRID[1])],
            "side": "right",
        },
        "detector": {
            "weights": _GIXI_WEIGHTS.get(name, "default"),
            "score_threshold": score.get("score_level", 0.6),
        },
        "matching": {"max_dq_inv_angstrom": matching.get("max_distance", 0.05)},
    }
    notes = ["side: right as in gixi; `fold` would use both halves of the detector."]
    if name not in _GIXI_WEIGHTS:
        notes.append(f"The network {name!r} is not a published one: weights are the default.")
    unknown = sorted(set(theirs) - _GIXI_ELSEWHERE)
    if unknown:
        notes.append(f"Not understood and left out: {', '.join(unknown)}.")
    return tree, notes


def _gixi_tree(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"cannot read {file}: {error.strerror}"
        raise ConfigError(message) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = f"{file} is neither a PONI file (*.poni), NeXus nor YAML: {error}"
        raise ConfigError(message) from error
    if not isinstance(tree, dict) or not isinstance(tree.get("q_space"), dict):
        message = (
            f"{file} has no section q_space; expected a PONI file (*.poni) or a configuration of "
            "gixi"
        )
        raise ConfigError(message)
    return tree


def _beam_center(file: Path, space: Mapping[str, Any]) -> list[float]:
    """Return [row, column] after the flip: gixi's z0 counts rows and y0 columns."""
    missing = [key for key in ("z0", "y0") if key not in space]
    if missing:
        message = f"{file}: q_space has no {' and '.join(missing)}, the beam's row and column"
        raise ConfigError(message)
    return [space["z0"], space["y0"]]

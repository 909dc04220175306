"""Instrument and sample of a run in its result file, from its start document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from gixi_bluesky.tiled_adapters.files.hdf5_text import group_of, write_text

__all__ = ["create_instrument", "create_sample"]

_KEV_ANGSTROM = 12.398419843320026  # h c / e
_MM = 1e-3


def create_instrument(entry: h5py.Group, start: Mapping[str, Any]) -> h5py.Group:
    """Write NXinstrument with source, monochromator and detector; what is not known is left out.

    Lengths are in metres, as `poni` files and NXdetector have them.
    """
    gixi = start.get("gixi", {})
    geometry = gixi.get("geometry", {})
    instrument = group_of(entry, "instrument", "NXinstrument")
    write_text(instrument, "name", _first(start, "beamline_id", "beamline", "beamline_name"))
    source = group_of(instrument, "source", "NXsource")
    write_text(source, "name", _first(start, "facility", "source", "beamline_source"))
    write_text(source, "type", _first(start, "source_type", default="Synchrotron X-ray Source"))
    write_text(source, "probe", "x-ray")
    monochromator = group_of(instrument, "monochromator", "NXmonochromator")
    wavelength = _wavelength(geometry)
    if wavelength is not None:
        _number(monochromator, "wavelength", wavelength, "angstrom")
        _number(monochromator, "energy", _KEV_ANGSTROM / wavelength, "keV")
    detector = group_of(instrument, "detector", "NXdetector")
    write_text(detector, "local_name", str(gixi.get("raw_data_key", "unknown")))
    if isinstance(distance := geometry.get("distance_mm"), int | float):
        _number(detector, "distance", distance * _MM, "m")
    for name, key in (("pixel_size_mm", "{}_pixel_size"), ("beam_center_px", "beam_center_{}")):
        values = geometry.get(name)
        if isinstance(values, list | tuple) and len(values) == 2:
            factor, unit = (_MM, "m") if name == "pixel_size_mm" else (1.0, "pixel")
            for axis, value in zip(("y", "x"), values, strict=True):
                _number(detector, key.format(axis), value * factor, unit)
    return instrument


def create_sample(entry: h5py.Group, start: Mapping[str, Any]) -> h5py.Group:
    """Write NXsample: its name, and all that the start document says of the sample as JSON."""
    sample = group_of(entry, "sample", "NXsample")
    described = start.get("sample")
    name = described.get("name") if isinstance(described, Mapping) else described
    write_text(sample, "name", str(start.get("sample_name") or name or "unknown"))
    fields = {key: value for key, value in start.items() if key.startswith("sample")}
    if fields:
        write_text(sample, "description", json.dumps(fields, default=str))
    angle = start.get("gixi", {}).get("geometry", {}).get("incidence_angle_deg")
    if isinstance(angle, int | float):
        _number(sample, "rotation_angle", float(angle), "deg")
    return sample


def _wavelength(geometry: Mapping[str, Any]) -> float | None:
    """Return the wavelength in angstrom, None where each frame has its own or a file gives it."""
    wavelength, energy = geometry.get("wavelength_angstrom"), geometry.get("energy_kev")
    if isinstance(wavelength, int | float):
        return float(wavelength)
    return _KEV_ANGSTROM / energy if isinstance(energy, int | float) else None


def _first(start: Mapping[str, Any], *keys: str, default: str = "unknown") -> str:
    return next((str(start[key]) for key in keys if isinstance(start.get(key), str)), default)


def _number(group: h5py.Group, name: str, value: float, unit: str) -> None:
    dataset = group.create_dataset(name, data=np.float64(value))
    dataset.attrs["units"] = np.bytes_(unit)

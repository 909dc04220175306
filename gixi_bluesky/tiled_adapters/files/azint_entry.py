"""Images and cuts of a result file as NXazint2d and NXazint1d, NeXus' azimuthal integration.

Nothing is copied: the subentries link to the images, cuts and instrument of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from gixi_bluesky.tiled_adapters.files.hdf5_text import group_of, text, write_json, write_text
from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET

__all__ = ["create_azint1d", "create_azint2d"]


def create_azint2d(entry: h5py.Group, start: Mapping[str, Any]) -> h5py.Group:
    """Write the subentry `azint2d` of an entry that has its images and instrument."""
    subentry = _subentry(entry, "azint2d", "NXazint2d", start)
    _create_data(entry, subentry)
    return subentry


def create_azint1d(entry: h5py.Group, start: Mapping[str, Any]) -> None:
    """Write a subentry `azint1d_<name>` (NXazint1d) for each cut of an entry that runs along q."""
    for name, data in entry["cuts"].items() if "cuts" in entry else ():
        if "q" in data:
            _create_azint1d(entry, name, data, start)


def _create_azint1d(
    entry: h5py.Group, name: str, cut: h5py.Group, start: Mapping[str, Any]
) -> None:
    subentry = _subentry(entry, f"azint1d_{name}", "NXazint1d", start)
    data = group_of(subentry, "data", "NXdata", signal="I", interpretation="spectrum")
    data.attrs["axes"] = np.array([b".", b"radial_axis"])
    data["I"], data["I_errors"] = cut["intensity"], cut["intensity_errors"]
    axis = data.create_dataset("radial_axis", data=cut["q"][()])
    axis.attrs["long_name"] = text("q")
    axis.attrs["units"] = text("1/angstrom")


def _subentry(
    entry: h5py.Group, name: str, definition: str, start: Mapping[str, Any]
) -> h5py.Group:
    """Write the groups that NXazint1d and NXazint2d share: corrections, instrument, reduction."""
    provenance = start.get("gixi", {}).get("provenance", {})
    config = provenance.get("config", {})
    corrections = config.get("corrections", {})
    subentry = group_of(entry, name, "NXsubentry", default="data")
    write_text(subentry, "definition", definition)
    subentry["solid_angle_applied"] = bool(corrections.get("solid_angle", True))
    subentry["polarization_applied"] = corrections.get("polarization", "default") is not None
    subentry["normalization_applied"] = True  # mean counts per pixel
    subentry["instrument"] = entry["instrument"]
    reduction = group_of(subentry, "reduction", "NXprocess")
    write_text(reduction, "program", "gixi_bluesky")
    write_text(reduction, "version", provenance.get("version", "unknown"))
    write_text(reduction, "date", entry["process/date"].asstr()[()])
    doi = config.get("output", {}).get("dois", {}).get("software")
    write_text(reduction, "reference", f"https://doi.org/{doi}" if doi else "gixi_bluesky")
    parameters = group_of(reduction, "input", "NXparameters")
    write_json(parameters, "configuration", config)
    return subentry


def _create_data(entry: h5py.Group, subentry: h5py.Group) -> None:
    data = group_of(subentry, "data", "NXdata", signal="I", interpretation="image")
    data.attrs["axes"] = np.array([b".", b"azimuthal_axis", b"radial_axis"])
    data["I"] = entry.file[IMAGE_DATASET]
    for name, axis, title, unit in (
        ("radial_axis", "q", "q", "1/angstrom"),
        ("azimuthal_axis", "phi", "azimuthal bin center", "degree"),
    ):
        dataset = data.create_dataset(name, data=entry[f"polar/{axis}"][()])
        dataset.attrs["long_name"] = text(title)
        dataset.attrs["units"] = text(unit)

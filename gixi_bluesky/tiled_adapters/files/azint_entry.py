"""The images of a result file once more as NXazint2d, the NeXus form of azimuthal integration.

Nothing is copied: the subentry links to the images, the axes and the instrument of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from gixi_bluesky.tiled_adapters.files.hdf5_text import group_of, text, write_json, write_text
from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET

__all__ = ["create_azint2d"]


def create_azint2d(entry: h5py.Group, start: Mapping[str, Any]) -> h5py.Group:
    """Write the subentry `azint2d` of an entry that has its images and instrument."""
    provenance = start.get("gixi", {}).get("provenance", {})
    config = provenance.get("config", {})
    corrections = config.get("corrections", {})
    subentry = group_of(entry, "azint2d", "NXsubentry", default="data")
    write_text(subentry, "definition", "NXazint2d")
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
    _create_data(entry, subentry)
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

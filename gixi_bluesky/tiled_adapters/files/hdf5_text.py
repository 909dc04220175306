"""Groups and text in HDF5 as NeXus requires, readable also while a file grows (SWMR)."""

from __future__ import annotations

import json
from typing import Any

import h5py
import numpy as np

__all__ = ["group_of", "text", "write_json", "write_text"]


def text(value: str) -> Any:
    """Return a UTF-8 string of fixed length, which SWMR files and old readers accept."""
    encoded = value.encode() or b"\0"
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", len(encoded)))


def write_text(group: h5py.Group, name: str, value: str) -> h5py.Dataset:
    """Write a string of fixed length."""
    return group.create_dataset(name, data=text(str(value)))


def write_json(group: h5py.Group, name: str, value: Any) -> None:
    """Write a value as indented JSON."""
    write_text(group, name, json.dumps(value, default=str, indent=1))


def group_of(parent: Any, name: str, nx_class: str, **attributes: str) -> h5py.Group:
    """Create a group of a NeXus class."""
    group = parent.create_group(name)
    group.attrs["NX_class"] = text(nx_class)
    for key, value in attributes.items():
        group.attrs[key] = text(value)
    return group

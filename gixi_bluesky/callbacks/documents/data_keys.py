"""The data keys of a descriptor: shapes, units, and the configuration of the devices."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping
from typing import Any

from gixi_bluesky.callbacks.documents.fields import is_row

__all__ = ["configuration_of", "shapes_of", "units_of", "unordered_keys"]

_MAX_DIMENSIONS = 8


def shapes_of(data_keys: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the declared shapes, without the zeros and blanks of old area detector devices."""
    shapes = {str(key): _shape(value) for key, value in data_keys.items()}
    return {key: shape for key, shape in shapes.items() if shape is not None}


def unordered_keys(data_keys: Mapping[str, Any]) -> frozenset[str]:
    """Return the keys whose shape is (a, b, 0), as old area detector devices declare an image.

    Some of them give rows first, some columns.
    """
    return frozenset(
        str(key)
        for key, value in data_keys.items()
        if isinstance(value, Mapping)
        and is_row(value.get("shape"))
        and len(value["shape"]) == 3
        and value["shape"][2] == 0
    )


def configuration_of(descriptor: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configured values of all devices by key."""
    values: dict[str, Any] = {}
    for device in _devices(descriptor):
        if isinstance(device.get("data"), Mapping):
            values.update(device["data"])
    return values


def units_of(descriptor: Mapping[str, Any]) -> dict[str, str]:
    """Return the units of its keys, and of those of the configuration, that state any."""
    units: dict[str, str] = {}
    for holder in (*_devices(descriptor), descriptor):
        data_keys = holder.get("data_keys")
        if isinstance(data_keys, Mapping):
            units |= {
                str(key): value["units"]
                for key, value in data_keys.items()
                if isinstance(value, Mapping)
                and isinstance(value.get("units"), str)
                and value["units"]
            }
    return units


def _devices(descriptor: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    devices = descriptor.get("configuration")
    if isinstance(devices, Mapping):
        yield from (device for device in devices.values() if isinstance(device, Mapping))


def _shape(data_key: Any) -> tuple[int, ...] | None:
    if not isinstance(data_key, Mapping) or not is_row(data_key.get("shape")):
        return None
    shape = data_key["shape"]
    if len(shape) > _MAX_DIMENSIONS:
        return None
    sizes = [int(n) for n in shape if isinstance(n, numbers.Integral)]
    return tuple(n for n in sizes if 0 < n < 2**31)

"""Inspection of a stored run: its images, and numbers that may be its geometry."""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gixi_bluesky.callbacks.documents.document_types import Descriptor, Event, RunStart
from gixi_bluesky.callbacks.documents.parsing import parse
from gixi_bluesky.errors import DocumentError

__all__ = ["ImageKey", "Inspection", "PossibleSource", "inspect_run"]

# Names at beamlines, the most specific first; a setpoint is not a reading.
_NAMES = {
    "incidence_angle_deg": (
        r"incident|incidence|alpha_?i|\bai\b|grazing|(?<!two )\bs?th(eta)?\b|omega|\bom\b"
    ),
    "energy_kev": r"energy|\ben\b|mono",
    "wavelength_angstrom": r"wave_?length|lambda",
    "distance_mm": r"distance|\bsdd\b|\bdist\b|camera_?length|det_?z\b",
    "arm_in_plane_deg": r"\btth\b|two_?theta|2theta|\bgamma\b|\bnu\b",
    "arm_out_of_plane_deg": r"\bdelta\b|\bdel\b",
    "pixel_size_mm": r"pixel_?size",
    "beam_center_px": r"beam_?cent(er|re)|beam_?[xyrc]\b",
}
_NO_READING = re.compile(r"setpoint|speed|velocity|offset|limit|resolution|time", re.IGNORECASE)
# Where these are looked for, as a frame's own values win over those of the whole run.
_PLACES = ("event", "configuration", "baseline", "start")
# Units as they are written, and as the configuration writes them.
_ANGLE_UNITS = {"deg": "deg", "degree": "deg", "rad": "rad", "mrad": "mrad"}
_UNITS = {
    "incidence_angle_deg": _ANGLE_UNITS,
    "arm_in_plane_deg": _ANGLE_UNITS,
    "arm_out_of_plane_deg": _ANGLE_UNITS,
    "energy_kev": {"kev": "keV", "ev": "eV"},
    "wavelength_angstrom": {"a": "angstrom", "angstrom": "angstrom", "å": "angstrom", "nm": "nm"},
    "distance_mm": {"mm": "mm", "cm": "cm", "m": "m", "um": "um"},
}
_HARD_X_RAYS_KEV = 200.0


@dataclass(frozen=True, slots=True)
class ImageKey:
    """A key that holds 2-D images; shape as its descriptor declares it."""

    stream: str
    key: str
    shape: tuple[int, ...]

    @property
    def is_dark(self) -> bool:
        """True if its stream has a usual name of dark images."""
        return "dark" in self.stream.lower()


@dataclass(frozen=True, slots=True)
class PossibleSource:
    """A number that may be a geometry value by its name; `unit` is "" if none is stated.

    place: where it is; values in other streams than that of the images are not looked up there
    """

    key: str
    place: str
    value: float
    unit: str

    @property
    def reachable(self) -> bool:
        """True if `{from: key}` finds it."""
        return self.place in _PLACES


@dataclass(slots=True)
class Inspection:
    """The images and candidates found in one run.

    images: darks last
    candidates: by the name of the setting, best first
    """

    uid: str = ""
    plan_name: str = ""
    streams: dict[str, int] = field(default_factory=dict)
    images: list[ImageKey] = field(default_factory=list)
    candidates: dict[str, list[PossibleSource]] = field(default_factory=dict)


def inspect_run(documents: Iterable[tuple[str, Mapping[str, Any]]]) -> Inspection:
    """Inspect the documents of one run; those that break their schema are skipped."""
    found = Inspection(candidates={name: [] for name in _NAMES})
    descriptors: dict[str, Descriptor] = {}
    units: dict[str, str] = {}
    values: dict[tuple[str, str], Any] = {}
    for name, doc in documents:
        try:
            parsed = parse(name, doc)
        except DocumentError:
            continue
        for document in parsed:
            match document:
                case RunStart():
                    found.uid = document.uid
                    found.plan_name = str(document.metadata.get("plan_name", ""))
                    values |= {("start", k): v for k, v in document.metadata.items()}
                case Descriptor():
                    descriptors[document.uid] = document
                    found.streams.setdefault(document.stream, 0)
                    found.images += _images(document)
                    units |= document.units
                    values |= {("configuration", k): v for k, v in document.configuration.items()}
                case Event() if document.descriptor in descriptors:
                    stream = descriptors[document.descriptor].stream
                    found.streams[stream] += 1
                    place = "baseline" if stream == "baseline" else f"stream {stream}"
                    for key, value in document.data.items():
                        values.setdefault((place, key), value)
                case _:
                    pass
    found.images.sort(key=lambda image: (image.is_dark, image.stream != "primary"))
    imaging = {f"stream {image.stream}" for image in found.images if not image.is_dark}
    values = {("event" if place in imaging else place, k): v for (place, k), v in values.items()}
    for name in _NAMES:
        found.candidates[name] = _candidates(name, values, units)
    return found


def _images(descriptor: Descriptor) -> list[ImageKey]:
    return [
        ImageKey(descriptor.stream, key, descriptor.shapes[key]) for key in descriptor.image_keys
    ]


def _candidates(
    name: str, values: Mapping[tuple[str, str], Any], units: Mapping[str, str]
) -> list[PossibleSource]:
    pattern = re.compile(_NAMES[name], re.IGNORECASE)
    found = []
    for (place, key), value in values.items():
        words = re.sub(r"[^a-zA-Z0-9]", "_", key).replace("_", " ")
        matched = pattern.search(key) or pattern.search(words)
        if not matched or _NO_READING.search(key) or not _is_number(value):
            continue
        number = float(value)
        unit = _UNITS.get(name, {}).get(str(units.get(key, "")).lower().rstrip("s"), "")
        if not unit and name == "energy_kev" and number > _HARD_X_RAYS_KEV:
            unit = "eV"
        rank = (_PLACES.index(place) if place in _PLACES else len(_PLACES), len(key))
        found.append((rank, PossibleSource(key, place, number, unit)))
    return [candidate for _, candidate in sorted(found, key=lambda entry: entry[0])]


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)

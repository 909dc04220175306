"""The images and geometry that a stored run holds, and a configuration to start from."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

from gixi_bluesky.checks.findings import Finding
from gixi_bluesky.plurals import counted

if TYPE_CHECKING:
    from gixi_bluesky.callbacks.documents.inspection import Inspection, PossibleSource

__all__ = ["findings_of", "read_run", "starter_config"]

_DOCUMENTS = 2000
_MEANINGS = {
    "incidence_angle_deg": "incidence angle",
    "energy_kev": "energy",
    "wavelength_angstrom": "wavelength",
    "distance_mm": "distance",
    "arm_in_plane_deg": "detector arm, in plane",
    "arm_out_of_plane_deg": "detector arm, out of plane",
    "pixel_size_mm": "pixel size",
    "beam_center_px": "beam centre",
}
_ARM = ("arm_in_plane_deg", "arm_out_of_plane_deg")
_UNLESS = dict.fromkeys(_ARM, " if the detector moves on an arm")
_NEEDED = {
    "distance_mm": "800.0    # sample to detector",
    "pixel_size_mm": "[0.172, 0.172]    # rows, columns",
    "beam_center_px": "[100.0, 500.0]    # row, column after the flip",
}


def read_run(uri: str, uid: str) -> Inspection:
    """Inspect a run of a Tiled server, in its catalogue `raw` or at the address itself.

    Raises StoreError when the server or the run is not there.
    """
    from gixi_bluesky.callbacks.documents.inspection import inspect_run
    from gixi_bluesky.errors import StoreError
    from gixi_bluesky.tiled_adapters.connection import connect
    from gixi_bluesky.tiled_adapters.settings import TiledSettings

    settings = TiledSettings(uri=uri)
    client = connect(settings)
    with closing(client.context):
        for path in ((settings.raw, uid), (uid,)):
            try:
                run = client[path]
            except KeyError:
                continue
            return inspect_run(islice(run.documents(), _DOCUMENTS))
    message = f"{uri} has no run {uid!r}, neither in {settings.raw!r} nor at its root"
    raise StoreError(message)


def findings_of(run: Inspection) -> list[Finding]:
    """Return a finding for each part, found or missing; only missing images are a problem."""
    streams = (
        ", ".join(f"{name} ({counted(n, 'event')})" for name, n in run.streams.items())
        or "no streams"
    )
    findings = [Finding("run", True, f"{run.uid} {run.plan_name}: {streams}"), _image(run)]
    for name, meaning in _MEANINGS.items():
        found = run.candidates[name]
        if found:
            detail = "; ".join(_shown(candidate) for candidate in found[:3])
        else:
            detail = f"not found: give geometry.{name}{_UNLESS.get(name, '')}"
        findings.append(Finding(meaning, True, detail))
    return findings


def starter_config(run: Inspection) -> str:
    """Return a configuration (YAML) in which values that the run does not hold are comments."""
    lines = [f"# Begun from run {run.uid}. Fill in what is commented out, then run", ""]
    lines[0] += " `gixi-bluesky check`."
    if run.images:
        image = run.images[0]
        lines += ["input:", f"  stream: {image.stream}", f"  data_key: {image.key}"]
    lines.append("geometry:")
    lines += _lines(run, "incidence_angle_deg", "0.2    # deg")
    beam = "energy_kev"
    if run.candidates["wavelength_angstrom"] and not run.candidates["energy_kev"]:
        beam = "wavelength_angstrom"
    lines += _lines(run, beam, "12.7")
    for name, example in _NEEDED.items():
        lines += _lines(run, name, example, document=name == "distance_mm")
    # The names do not show whether the detector is mounted on the arm that was found.
    for name in _ARM:
        lines += _hints(run, name, 0)
    lines += ["  flip: vertical    # files have row 0 at the top; q_z grows with the row"]
    dark = next((image for image in run.images[1:] if image.is_dark), None)
    if dark is not None:
        source = f"{{stream: {dark.stream}, data_key: {dark.key}}}"
        lines += ["corrections:", f"  dark: {source}"]
    lines += ["matching:", "  cif: []    # files or folders of the phases that may be there"]
    return "\n".join(lines) + "\n"


def _image(run: Inspection) -> Finding:
    if not run.images:
        message = "no key is a 2-D image; is this the right run, and does its detector declare one?"
        return Finding("image", False, message)
    keys = "; ".join(
        f"{'darks, ' if image.is_dark else ''}{image.key} in {image.stream}, "
        f"{' x '.join(map(str, image.shape))}"
        for image in run.images
    )
    several = sum(not image.is_dark for image in run.images) > 1
    choice = "; choose with input.stream and input.data_key" if several else ""
    return Finding("image", True, keys + choice)


def _shown(candidate: PossibleSource) -> str:
    unit = f" {candidate.unit}" if candidate.unit else ", unit not stated"
    beyond = "" if candidate.reachable else ", where frames cannot look it up"
    return f"{candidate.key} in the {candidate.place}: {candidate.value:g}{unit}{beyond}"


def _hints(run: Inspection, name: str, first: int) -> list[str]:
    """Return the other candidates as comments."""
    return [
        f"  # {name}: perhaps {_shown(candidate)}" for candidate in run.candidates[name][first:3]
    ]


def _lines(run: Inspection, name: str, example: str, *, document: bool = True) -> list[str]:
    """Return the lines of a setting taken from the documents, or a comment to be filled in."""
    found = run.candidates[name]
    usable = document and bool(found) and found[0].reachable
    hints = _hints(run, name, 1 if usable else 0)
    if not usable:
        return [*hints, f"  # {name}: {example}"]
    unit = f", unit: {found[0].unit}" if found[0].unit else ""
    return [f'  {name}: {{from: "{found[0].key}"{unit}}}', *hints]

"""`plot`: a picture of one analysed image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gixi_bluesky.cli.console import say
from gixi_bluesky.cli.options import Cifs, ConfigFile, IncidenceAngle, configured_for_files
from gixi_bluesky.plurals import counted

__all__ = ["plot"]


def plot(
    config: ConfigFile,
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="As of `process`; the first one of a file.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.png", help="PNG, PDF or SVG.")],
    cif: Cifs = None,
    incidence_angle: IncidenceAngle = None,
) -> None:
    """Draw an image raw, polar and in (q_xy, q_z), with its peaks, their hkl and the cuts."""
    from gixi_bluesky.cli.images import first_image
    from gixi_bluesky.processing import Pipeline
    from gixi_bluesky.processing.geometry.calibration import orient
    from gixi_bluesky.processing.pictures.frame_picture import FramePicture

    settings = configured_for_files(config, cif or [], incidence_angle)
    label, frame = first_image(settings, image)
    pipeline = Pipeline(settings)
    result = pipeline(frame)
    turned = orient(frame, settings.geometry)
    q_map = pipeline.remapper((frame.shape[0], frame.shape[1])).q_map(turned)
    phases = result.matches[result.matches["probability"] >= 0.5]
    found = ", ".join(
        f"{row['phase']} {row['probability']:.2f}" for row in phases.to_dict("records")
    )
    title = f"{Path(label).name}: {counted(len(result.peaks), 'peak')}; {found or 'no phase'}"
    FramePicture(title, turned, result, q_map, settings.cuts).save(out)
    say(f"wrote {out}")

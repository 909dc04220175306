"""`mask`: dead, hot and blinking pixels of a detector, found in its frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gixi_bluesky.cli.console import output, print_json, say
from gixi_bluesky.cli.options import JsonLines

__all__ = ["mask"]

_MOST_MASKED = 0.9


def mask(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="As for `process`.")],
    out: Annotated[Path, typer.Option(metavar="FILE.npy", help="File of the mask.")],
    add: Annotated[
        Path | None, typer.Option(metavar="MASK", help="A mask whose pixels are masked as well.")
    ] = None,
    json: JsonLines = False,
) -> None:
    """Write a mask of unusable pixels, True = masked, in the orientation of the files.

    - absent pixels: no data in every frame (gaps)
    - dead pixels: zero in every frame, unlike their neighbours
    - hot pixels: far above all their neighbours in the mean of the frames
    - blinking pixels: vary more than ten times as much as their surroundings (needs four frames)

    Name the file as geometry.mask. Prints a warning if more than 90 % of the pixels are masked.
    """
    import numpy as np

    from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
    from gixi_bluesky.callbacks.images.locations import FrameReader
    from gixi_bluesky.callbacks.settings import InputSettings
    from gixi_bluesky.cli.images import announced
    from gixi_bluesky.processing.pixels.bad_pixels import PixelSurvey
    from gixi_bluesky.processing.pixels.masks import load_mask

    if out.suffix != ".npy":
        message = f"got {out}; the mask is a NumPy file, its name ends in .npy"
        raise typer.BadParameter(message, param_hint="--out")
    access = FileAccess.from_settings(InputSettings())
    reader = FrameReader(access)
    survey = PixelSurvey()
    for name in images:
        for _, reference in announced(name, access).references():
            survey.add(reader.read(reference))
    bad = survey.result()
    masked = bad.mask
    if add is not None:
        masked |= load_mask(add, (masked.shape[0], masked.shape[1]))
    out.parent.mkdir(parents=True, exist_ok=True)
    np.save(out, masked)
    counts, share = bad.counts(), float(masked.mean())
    if json:
        print_json({"mask": str(out), "frames": survey.frames, **counts, "masked_share": share})
    else:
        for kind, count in counts.items():
            output.print(f"{kind}: {count}")
        output.print(f"{out}: {share:.2%} of {masked.size} pixels, from {survey.frames} frames")
    if survey.frames < 4:
        say("blinking pixels are found in four frames or more")
    if share > _MOST_MASKED:
        say(f"warning: {share:.1%} of the pixels are masked; were the frames exposed?")

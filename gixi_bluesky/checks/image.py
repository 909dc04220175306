"""Checks of an image against the configuration: mask, rings, phases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.checks.geometry_numbers import doubtful_placement
from gixi_bluesky.checks.image_orientation import doubtful_orientation
from gixi_bluesky.checks.offers import offers
from gixi_bluesky.checks.ring_positions import line_up
from gixi_bluesky.plurals import counted

if TYPE_CHECKING:
    from gixi_bluesky.config import Config

__all__ = ["check_image"]

_LEAST_DATA = 0.5
_SIDES = "on the right of the beam against the left"


def check_image(config: Config, label: str, frame: NDArray[Any]) -> tuple[str, list[str]]:
    """Analyse an image, and return findings and warnings, one sentence each.

    label: FILE, FILE::DATASET or FILE::NUMBER; frame: (rows, columns) as read
    Raises GeometryError or FrameError for an image that cannot be analysed.
    """
    from gixi_bluesky.processing import Pipeline
    from gixi_bluesky.processing.front.frame_maps import FrameSetup
    from gixi_bluesky.processing.geometry.calibration import orient
    from gixi_bluesky.processing.pixels.masks import invalid_pixels

    pipeline = Pipeline(config)
    result = pipeline(frame)
    shape = frame.shape[0], frame.shape[1]
    setup = FrameSetup.of(config.geometry, config.corrections, shape)
    turned = orient(frame, config.geometry)
    masked = ~setup.valid
    valid = ~masked & ~invalid_pixels(turned, config.corrections.dummy)
    q_max = config.grid.q_max_inv_angstrom
    sides, doubts = doubtful_orientation(turned, valid, setup.geometry, q_max)
    phases, shifts = line_up(result, pipeline.structures, setup.geometry.wavelength_angstrom)
    file = Path(label.partition("::")[0])
    doubts = [
        *doubtful_placement(setup.geometry, setup.shape, q_max),
        *_data(turned, masked, valid),
        *doubts,
        *shifts,
        *offers(config, file, setup.geometry, shape),
        # The comparison of the sides has its own message.
        *(one for one in result.warnings if _SIDES not in one),
    ]
    detail = (
        f"{label}: {counted(len(result.peaks), 'peak')} in {sum(result.seconds.values()):.2f} s; "
        f"the mask leaves out {masked.mean():.1%}, in all {1 - valid.mean():.1%} are no data; "
        f"{sides}; {phases}"
    )
    return detail, doubts


def _data(frame: NDArray[Any], masked: NDArray[np.bool_], valid: NDArray[np.bool_]) -> list[str]:
    doubts = []
    marked = float(np.mean(~valid & ~masked))
    if marked > 1 - _LEAST_DATA:
        doubts.append(f"the image itself marks {marked:.1%} of the pixels as no data")
    counts = frame[valid]
    if counts.size and np.all(counts == counts.flat[0]):
        doubts.append(f"all pixels count {counts.flat[0]:g}: was the shutter open?")
    return doubts

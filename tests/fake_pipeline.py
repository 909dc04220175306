"""A pipeline that needs no torch, for the analysis process; frames can make it misbehave."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gixi_bluesky.errors import FrameError, WeightsError
from gixi_bluesky.processing.geometry.conditions import Conditions
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks
from gixi_bluesky.processing.types import CartesianImage, FrameResult, PolarImage
from gixi_bluesky.provenance import Provenance, result_hash

GATE = "GIXI_FAKE_GATE"
N_PHI, N_Q = 16, 32
HUNGRY, KILLS, SLEEPS, REFUSED, UNFORESEEN = 249, 250, 251, 252, 253


class FakePipeline:
    """One peak a frame, whose |q| is the frame's mean over 100; phase "fake" above a mean of 50.

    The mean is that above the dark, if there is one.

    The first pixel of a frame can be a sign to misbehave; frames take GIXI_FAKE_SECONDS each.
    """

    structures: tuple[Any, ...] = ()

    def __init__(self, config: Any) -> None:
        if config.detector.weights == "missing":
            message = "got no weights; run `gixi-bluesky weights fetch`"
            raise WeightsError(message)
        self._angle = config.geometry.incidence_angle_deg
        self.provenance = Provenance(
            version="0",
            result_hash=result_hash({"grid": config.grid.model_dump(mode="json")}),
            config=config.model_dump(mode="json", by_alias=True),
            geometry=config.geometry.model_dump(mode="json", by_alias=True),
            weights_name="fake",
            weights_sha256="",
            cif_sha256={},
        )

    def __call__(
        self,
        frame: Any,
        incidence_angle_deg: float | None = None,
        *,
        exposures: int = 1,
        dark: Any = None,
        conditions: Conditions | None = None,
        q_image: bool = False,
    ) -> FrameResult:
        if conditions is not None and incidence_angle_deg is None:
            incidence_angle_deg = conditions.incidence_angle_deg
        time.sleep(float(os.environ.get("GIXI_FAKE_SECONDS", "0")))
        misbehave(int(frame.flat[0]))
        mean = float(np.mean(frame))
        if dark is not None:
            mean -= exposures * float(np.mean(dark.mean))
        peak: dict[str, Any] = {column: 0.0 for column, _ in Peaks.empty().items()}
        peak |= {"peak": 0, "kind": "ring", "fit_flags": 0, "q": mean / 100}
        phase: dict[str, Any] = {column: 0 for column, _ in Matches.empty().items()}
        phase |= {"phase": "fake", "probability": 0.9 if mean > 50 else 0.1}
        hkl = {"peak": 0, "phase": "fake", "h": 1, "k": 0, "l": 0, "dq": 0.0}
        image = np.full((N_PHI, N_Q), mean, dtype=np.float32)
        return FrameResult(
            polar=PolarImage(
                intensity=image,
                variance=image,
                pixels=image,
                q=np.linspace(0, 3, N_Q),
                phi=np.linspace(0, 90, N_PHI),
            ),
            peak_table=Peaks.from_rows([peak]),
            match_table=Matches.from_rows([phase]),
            match_peak_table=MatchPeaks.from_rows([hkl]),
            incidence_angle_deg=self._angle if incidence_angle_deg is None else incidence_angle_deg,
            seconds={"all": 0.0},
            q_image=q_image_of(image) if q_image else None,
        )


class FollowedPipeline(FakePipeline):
    """Its peak is a ring that has a place and widths, and so a track."""

    def __call__(self, frame: Any, *arguments: Any, **conditions: Any) -> FrameResult:
        result = super().__call__(frame, *arguments, **conditions)
        row = result.peaks.iloc[0].to_dict()
        del row["frame"], row["track"]
        row |= {"q": 1.5, "phi": 45.0, "fwhm_q": 0.3, "fwhm_phi": 40.0, "snr": 50.0}
        return replace(result, peak_table=Peaks.from_rows([row]))


class GatedPipeline(FakePipeline):
    """Cannot be built before the file that GIXI_FAKE_GATE names is there."""

    def __init__(self, config: Any) -> None:
        gate = os.environ.get(GATE)
        while gate and not Path(gate).exists():
            time.sleep(0.01)
        super().__init__(config)


class FilmPipeline(FakePipeline):
    """Peaks that drift, come and flicker; a frame full of n is the n-th of the film.

    Rings at the places of the peaks are in the image, also where the peak is not listed.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        n_phi, n_q = config.grid.shape
        self._axes = (
            np.linspace(0, config.grid.q_max_inv_angstrom, n_q),
            np.linspace(0, 90, n_phi),
        )

    def __call__(self, frame: Any, *arguments: Any, **conditions: Any) -> FrameResult:
        result = super().__call__(frame, *arguments, **conditions)
        n = int(frame.flat[0])
        lines = [
            {"q": 1.0 + 0.0015 * n, "snr": 60.0, "intensity": 6.0},
            {"q": 1.1 - 0.0015 * n, "snr": 40.0, "intensity": 2.0},
            {"q": 0.6, "snr": 6.0, "intensity": 0.5},
            {"q": 2.0, "snr": 30.0, "intensity": 1.0},
        ]
        seen = [True, True, n % 3 != 0, n > 7]
        shape = {"phi": 45.0, "fwhm_q": 0.04, "fwhm_phi": 80.0, "q_error": 1e-3}
        rows = [
            {**shape, **line, "intensity_error": line["intensity"] / line["snr"], "kind": "ring"}
            for line, listed in zip(lines, seen, strict=True)
            if listed
        ]
        q, phi = self._axes
        image = np.random.default_rng(n).normal(10.0, 0.3, (len(phi), len(q)))
        for line in lines:
            image += 3 * line["intensity"] * np.exp(-(((q - line["q"]) / 0.024) ** 2))
        intensity = image.astype(np.float32)
        ones = np.ones_like(intensity)
        return replace(
            result,
            polar=PolarImage(intensity, 0.1 * ones, ones, q, phi),
            peak_table=Peaks.from_rows([{**row, "peak": i} for i, row in enumerate(rows)]),
            match_peak_table=MatchPeaks.from_rows([]),
        )


def q_image_of(image: Any) -> CartesianImage:
    """Return the image as if its cells were those of (q_z, q_xy)."""
    axes = np.linspace(-1, 3, N_Q), np.linspace(0, 3, N_PHI)
    return CartesianImage(image, image, image, q_xy=axes[0], q_z=axes[1])


def misbehave(sign: int) -> None:
    if sign == KILLS:
        os.kill(os.getpid(), signal.SIGKILL)
    elif sign == SLEEPS:
        time.sleep(60)
    elif sign == HUNGRY:
        # Zeros are not touched, so that only a limit ends this.
        held = [np.zeros(1 << 30, np.uint8) for _ in range(2000)]
        message = f"there was no limit at {len(held)} GiB"
        raise LookupError(message)
    elif sign == REFUSED:
        message = "this frame is refused"
        raise FrameError(message)
    elif sign == UNFORESEEN:
        message = "nobody foresaw this"
        raise LookupError(message)

"""Peak detectors: the same call for the networks and for the one that needs no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector.classical import ClassicalDetector
from gixi_bluesky.processing.types import Detections

__all__ = ["Detector", "load_detector"]


class Detector(Protocol):
    """Finds peaks in polar images.

    name, sha256: which detector and which weights, for the provenance
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102

    def prepare(self, polar: NDArray[np.floating]) -> NDArray[np.float32]:
        """Give (..., n_phi, n_q) counts the contrast the detector wants: 0…1, NaN = no data."""

    def __call__(self, images: NDArray[np.float32]) -> list[Detections]:
        """Find peaks in (n, n_phi, n_q) prepared images, best score first."""


def load_detector(name_or_path: str | Path = "default", device: str = "cpu") -> Detector:
    """Return the detector of that name, or of a weights file (.safetensors with its manifest).

    Raises WeightsError when weights are missing, damaged or unknown.
    """
    if str(name_or_path) in ("default", "classical"):
        return ClassicalDetector()
    message = f"got weights {str(name_or_path)!r}; expected default or classical"
    raise WeightsError(message)

"""Messages between the analysis process and its parent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.locations import FrameRef
from gixi_bluesky.callbacks.runs.actions import DarkImages
from gixi_bluesky.callbacks.settings import AnalysisConfig
from gixi_bluesky.processes.shared_blocks import SharedArray
from gixi_bluesky.processing.geometry.conditions import Conditions
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks, TextureTable
from gixi_bluesky.processing.types import Cut
from gixi_bluesky.provenance import Provenance

__all__ = ["Analysed", "Job", "Outcome", "Ready", "Setup"]


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message to the analysis process.

    factory: "module:name" of what builds the pipeline from the configuration
    access: which files may be read
    blocks: descriptors of the shared memory that inline images come through
    """

    factory: str
    config: AnalysisConfig
    access: FileAccess
    threads: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Ready:
    """The pipeline is built.

    phases: what was searched for: slug, name, sha256 and powder lines, in JSON types
    forks: whether copies of the process can be made by fork
    gpu: whether the pipeline runs on a GPU
    """

    provenance: Provenance
    phases: tuple[dict[str, Any], ...]
    forks: bool = False
    gpu: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One frame to analyse; its file is awaited until `deadline` (time.monotonic).

    exposures: how many images an image inside an event is the sum of
    block: number of the shared memory that an inline image lies in
    keep_image, keep_q_image: return the polar image, and that on (q_z, q_xy)
    """

    raw_uid: str
    frame: int
    image: FrameRef | SharedArray
    conditions: Conditions
    deadline: float
    keep_image: bool
    exposures: int = 1
    dark: DarkImages | None = None
    block: int = 0
    keep_q_image: bool = False


@dataclass(frozen=True, slots=True)
class Analysed:
    """The stored results of one frame: its tables, its cuts, and its images if they are kept.

    q_image, q_axes: the image on (q_z, q_xy), and its q_xy and q_z, 1/angstrom
    gain, readout_noise: of the noise model that was used, counts; NaN = unknown
    """

    peaks: Peaks
    matches: Matches
    match_peaks: MatchPeaks
    q: NDArray[np.float64]
    phi: NDArray[np.float64]
    image: NDArray[np.float32] | None
    incidence_angle_deg: float
    total_intensity: float
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    textures: TextureTable = field(default_factory=TextureTable.empty)
    step_rows: Mapping[str, Mapping[str, list[Any]]] = field(default_factory=dict)
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    gain: float = math.nan
    readout_noise: float = math.nan
    q_axes: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    q_image: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of the analysis of one frame: ok with a result, else the reason.

    gpu_bytes: memory that the analysis process holds on its GPU, None without one
    """

    status: str
    reason: str = ""
    result: Analysed | None = None
    gpu_bytes: int | None = None

"""The parts of the configuration that the chain reads, and the provenance they give its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import gixi_bluesky
from gixi_bluesky.processing.cuts.settings import Cuts
from gixi_bluesky.processing.detector import Detector
from gixi_bluesky.processing.geometry.calibration import calibration_of
from gixi_bluesky.processing.pixels.calibration_images import file_of
from gixi_bluesky.processing.settings import (
    CorrectionSettings,
    DetectorSettings,
    GeometrySettings,
    GivenPerFrame,
    GridSettings,
    MaskFile,
    MatchingSettings,
)
from gixi_bluesky.processing.steps.loading import identity
from gixi_bluesky.processing.steps.protocol import Step
from gixi_bluesky.processing.steps.settings import Steps
from gixi_bluesky.processing.structures.cif_files import Structure
from gixi_bluesky.processing.texture.settings import Textures
from gixi_bluesky.processing.tracks.settings import TrackSettings
from gixi_bluesky.provenance import Provenance, file_sha256, result_hash

__all__ = ["PipelineSettings", "provenance_of"]


class PipelineSettings(Protocol):
    """The part of the configuration that the chain reads."""

    @property
    def geometry(self) -> GeometrySettings: ...  # noqa: D102
    @property
    def grid(self) -> GridSettings: ...  # noqa: D102
    @property
    def corrections(self) -> CorrectionSettings: ...  # noqa: D102
    @property
    def detector(self) -> DetectorSettings: ...  # noqa: D102
    @property
    def matching(self) -> MatchingSettings: ...  # noqa: D102
    @property
    def cuts(self) -> Cuts: ...  # noqa: D102
    @property
    def textures(self) -> Textures: ...  # noqa: D102
    @property
    def steps(self) -> Steps: ...  # noqa: D102
    @property
    def tracks(self) -> TrackSettings: ...  # noqa: D102


def provenance_of(
    config: PipelineSettings,
    detector: Detector,
    structures: Sequence[Structure],
    steps: Sequence[Step],
) -> Provenance:
    """Return what decides the results of a configuration, and what the detector runs on."""
    poni, mask = config.geometry.poni, config.geometry.mask_file
    cifs = {s.slug: s.sha256 for s in structures}
    geometry = config.geometry.model_dump(mode="json", exclude={"poni", "nexus", "mask"})
    calibration = calibration_of(config.geometry) if config.geometry.nexus else None
    nexus_sha256 = calibration.sha256 if calibration else None
    poni_sha256 = file_sha256(poni) if poni else None
    mask_sha256 = file_sha256(file_of(mask.file)) if mask else None
    corrections = config.corrections
    files = {"dark": corrections.dark_file, "flat": corrections.flat}
    correction_sha256 = {name: file_sha256(file_of(path)) for name, path in files.items() if path}
    deciding = {
        "geometry": geometry,
        "poni_sha256": poni_sha256,
        "nexus_sha256": nexus_sha256,
        "mask_sha256": mask_sha256,
        **_within_files(mask, files),
        "grid": config.grid.model_dump(mode="json"),
        "corrections": corrections.model_dump(mode="json", exclude={"dark", "flat"}),
        # Its content is that of the raw run, whose uid decides too.
        "dark_stream": corrections.dark.model_dump(mode="json")
        if isinstance(corrections.dark, GivenPerFrame)
        else None,
        "correction_sha256": correction_sha256,
        "detector": config.detector.model_dump(
            mode="json", exclude={"weights", "device", "engine"}
        ),
        "precision": detector.precision,
        "weights_sha256": detector.sha256,
        "matching": config.matching.model_dump(mode="json", exclude={"cif"}),
        "cif_sha256": cifs,
        "cuts": {name: cut.model_dump(mode="json") for name, cut in config.cuts.items()},
        "textures": {name: one.model_dump(mode="json") for name, one in config.textures.items()},
        "tracks": config.tracks.model_dump(mode="json"),
        "steps": [
            identity(settings, step) for settings, step in zip(config.steps, steps, strict=True)
        ],
    }
    return Provenance(
        version=gixi_bluesky.__version__,
        result_hash=result_hash(deciding),
        config=_as_json(config),
        geometry=geometry,
        weights_name=detector.name,
        weights_sha256=detector.sha256,
        cif_sha256=cifs,
        mask_sha256=mask_sha256,
        poni_sha256=poni_sha256,
        nexus_sha256=nexus_sha256,
        correction_sha256=correction_sha256,
        device=detector.device,
        engine=detector.engine,
    )


def _within_files(mask: MaskFile | None, files: Mapping[str, Path | None]) -> dict[str, Any]:
    """Return how the contents of hashed files are read where it is not the usual way."""
    named = {**files, "mask": mask.file if mask else None}
    datasets = {
        name: str(path).partition("::")[2] for name, path in named.items() if "::" in str(path)
    }
    how: dict[str, Any] = {"datasets": datasets} if datasets else {}
    return how | ({"mask_good": mask.good} if mask and mask.good else {})


def _as_json(config: PipelineSettings) -> dict[str, Any]:
    dump = getattr(config, "model_dump", None)
    if dump is not None:
        return dict(dump(mode="json", by_alias=True))
    parts = ("geometry", "grid", "corrections", "detector", "matching")
    return {part: getattr(config, part).model_dump(mode="json", by_alias=True) for part in parts}

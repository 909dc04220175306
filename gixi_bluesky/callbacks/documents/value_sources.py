"""Settings whose values come from a run's documents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gixi_bluesky.processing.geometry.conditions import sources
from gixi_bluesky.processing.settings import (
    ArmAngle,
    CorrectionSettings,
    FetchedFile,
    FilePath,
    GeometrySettings,
    GivenPerFrame,
    IncidenceAngle,
    PositiveFloat,
)

__all__ = [
    "DarkRun",
    "DarkStream",
    "DocumentKey",
    "EnergyFromDocument",
    "FromDocument",
    "LengthFromDocument",
    "RunCorrectionSettings",
    "RunGeometrySettings",
    "WavelengthFromDocument",
    "document_keys",
]


class DocumentKey(GivenPerFrame):
    """A number looked up in the run's documents: raw · scale + offset, in `unit` if it has one."""

    from_: str = Field(alias="from", min_length=1, description="key in the documents")
    scale: float = 1.0
    offset: float = 0.0

    units: ClassVar[Mapping[str, float]] = {}

    def __str__(self) -> str:
        return f"{self.from_!r} of the run's documents"

    def value(self, raw: float) -> float:
        """Return the value of a raw number, in the unit that the setting's name states."""
        return (raw * self.scale + self.offset) * self.units.get(getattr(self, "unit", ""), 1.0)


class FromDocument(DocumentKey):
    """An angle from the run's documents."""

    unit: Literal["deg", "rad", "mrad"] = "deg"
    units: ClassVar[Mapping[str, float]] = {"rad": math.degrees(1.0), "mrad": math.degrees(1e-3)}


class EnergyFromDocument(DocumentKey):
    """A photon energy from the run's documents."""

    unit: Literal["keV", "eV"] = "keV"
    units: ClassVar[Mapping[str, float]] = {"eV": 1e-3}


class WavelengthFromDocument(DocumentKey):
    """A wavelength from the run's documents."""

    unit: Literal["angstrom", "nm"] = "angstrom"
    units: ClassVar[Mapping[str, float]] = {"nm": 10.0}


class LengthFromDocument(DocumentKey):
    """A distance from the run's documents."""

    unit: Literal["mm", "cm", "m", "um"] = "mm"
    units: ClassVar[Mapping[str, float]] = {"cm": 10.0, "m": 1e3, "um": 1e-3}


class DarkStream(GivenPerFrame):
    """The dark is in a stream of each run, as `dark` streams are."""

    stream: str = Field(min_length=1)
    data_key: str | None = Field(None, description="null: as for the images themselves")
    events: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="how many of its first events make the dark, with all their images"
    )

    def __str__(self) -> str:
        return f"the stream {self.stream!r} of the run"


class DarkRun(FetchedFile):
    """The dark is another run, in the raw catalogue of the Tiled server."""

    run: str = Field(min_length=1, description="its uid")
    stream: str = "primary"
    data_key: str | None = Field(None, description="null: its only image key")

    def __str__(self) -> str:
        return f"the run {self.run}, fetched by gixi_bluesky.callbacks.with_fetched_dark(config)"


class RunGeometrySettings(GeometrySettings):
    """The geometry; numbers may come from the documents of each run."""

    wavelength_angstrom: PositiveFloat | WavelengthFromDocument | None = None
    energy_kev: PositiveFloat | EnergyFromDocument | None = None
    distance_mm: PositiveFloat | LengthFromDocument | None = Field(
        None, description="sample to detector; beside a file only from the documents"
    )
    incidence_angle_deg: IncidenceAngle | FromDocument = 0.0
    arm_in_plane_deg: ArmAngle | FromDocument = Field(
        0.0, description="turn of the detector about the sample towards growing columns"
    )
    arm_out_of_plane_deg: ArmAngle | FromDocument = Field(
        0.0, description="turn of the detector about the sample upwards"
    )


class RunCorrectionSettings(CorrectionSettings):
    """Corrections of the counts; dark and monitor may come from the documents of each run."""

    dark: FilePath | DarkStream | DarkRun | None = Field(
        None,
        description="counts without beam: npy, edf, tiff or h5; a stack is averaged. Or "
        "{stream: dark} of each run, or {run: UID} of another one",
    )
    monitor: DocumentKey | None = Field(
        None, description="counts are divided by it; its scale sets what counts as 1"
    )


def document_keys(
    geometry: GeometrySettings, corrections: CorrectionSettings
) -> dict[str, DocumentKey]:
    """Return which conditions of a frame come from a run's documents, by their name there."""
    found = sources(geometry, corrections)
    return {name: value for name, value in found.items() if isinstance(value, DocumentKey)}

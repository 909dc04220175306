"""Settings of the processing stages: light to import, strict, relative paths already resolved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

__all__ = [
    "WEIGHTS_FILES",
    "ContrastSettings",
    "CorrectionSettings",
    "DarkRun",
    "DarkStream",
    "DetectorSettings",
    "DocumentKey",
    "EnergyFromDocument",
    "FilePath",
    "FromDocument",
    "GeometrySettings",
    "GridSettings",
    "LengthFromDocument",
    "MatchingSettings",
    "Settings",
    "WavelengthFromDocument",
]

Flip = Literal["none", "vertical", "horizontal", "both"]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]

WEIGHTS_FILES = (".safetensors", ".onnx")
HC_KEV_ANGSTROM = 12.398419843320026  # h c, exact in the 2019 SI


class Settings(BaseModel):
    """The base of all settings: frozen, unknown keys are errors, errors do not repeat the input."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True
    )


def _in_folder(value: Any, info: ValidationInfo) -> Any:
    """Return a path relative to the configuration's folder, which is in the context."""
    folder = info.context.get("folder") if isinstance(info.context, dict) else None
    return folder / value if folder is not None and isinstance(value, str | Path) else value


def _weights_in_folder(value: Any, info: ValidationInfo) -> Any:
    return str(_in_folder(value, info)) if str(value).endswith(WEIGHTS_FILES) else value


# A path that is relative to the configuration file: validated with context={"folder": Path}.
FilePath = Annotated[Path, BeforeValidator(_in_folder)]
WeightsName = Annotated[str, BeforeValidator(_weights_in_folder)]


class DocumentKey(Settings):
    """A number looked up in the run's documents: raw · scale + offset, in `unit` if it has one."""

    from_: str = Field(alias="from", min_length=1, description="key in the documents")
    scale: float = 1.0
    offset: float = 0.0

    units: ClassVar[Mapping[str, float]] = {}

    def value(self, raw: float) -> float:
        """Return what the raw number means, in the unit that the setting's name states."""
        return (raw * self.scale + self.offset) * self.units.get(getattr(self, "unit", ""), 1.0)


class FromDocument(DocumentKey):
    """An angle from the run's documents."""

    unit: Literal["deg", "rad", "mrad"] = "deg"
    units = {"rad": math.degrees(1.0), "mrad": math.degrees(1e-3)}


class EnergyFromDocument(DocumentKey):
    """A photon energy from the run's documents."""

    unit: Literal["keV", "eV"] = "keV"
    units = {"eV": 1e-3}


class WavelengthFromDocument(DocumentKey):
    """A wavelength from the run's documents."""

    unit: Literal["angstrom", "nm"] = "angstrom"
    units = {"nm": 10.0}


class LengthFromDocument(DocumentKey):
    """A distance from the run's documents."""

    unit: Literal["mm", "cm", "m", "um"] = "mm"
    units = {"cm": 10.0, "m": 1e3, "um": 1e-3}


ArmAngle = Annotated[float, Field(gt=-90, lt=90)] | FromDocument


class GeometrySettings(Settings):
    """Where the detector is; either the explicit numbers, a PONI file or a NeXus file."""

    wavelength_angstrom: PositiveFloat | WavelengthFromDocument | None = None
    energy_kev: PositiveFloat | EnergyFromDocument | None = None
    distance_mm: PositiveFloat | LengthFromDocument | None = Field(
        None, description="sample to detector; beside a file only from the documents"
    )
    pixel_size_mm: tuple[PositiveFloat, PositiveFloat] | None = Field(
        None, description="rows, columns"
    )
    beam_center_px: tuple[float, float] | None = Field(
        None, description="row, column after `flip`; pixel centres at integers"
    )
    incidence_angle_deg: Annotated[float, Field(ge=0, lt=90)] | FromDocument = 0.0
    arm_in_plane_deg: ArmAngle = Field(
        0.0, description="turn of the detector about the sample towards growing columns"
    )
    arm_out_of_plane_deg: ArmAngle = Field(
        0.0, description="turn of the detector about the sample upwards"
    )
    arm_carrier: Literal["in_plane", "out_of_plane"] = Field(
        "in_plane", description="the circle that carries the other one"
    )
    flip: Flip | None = Field(None, description="applied to the array before anything else")
    orientation: Annotated[int, Field(ge=1, le=8)] | None = Field(
        None, description="as in pyFAI and EXIF; instead of `flip`"
    )
    poni: FilePath | None = None
    nexus: FilePath | None = Field(None, description="FILE or FILE::GROUP, an NXdetector")
    mask: FilePath | None = Field(None, description="npy, edf, tiff or h5; nonzero = masked")

    @model_validator(mode="after")
    def _one_source(self) -> GeometrySettings:
        if self.flip is not None and self.orientation is not None:
            message = "got both flip and orientation; give one of them"
            raise ValueError(message)
        explicit = {
            "distance_mm": self.distance_mm,
            "pixel_size_mm": self.pixel_size_mm,
            "beam_center_px": self.beam_center_px,
        }
        files = [name for name in ("poni", "nexus") if getattr(self, name) is not None]
        if len(files) > 1:
            message = "got both poni and nexus; give one of them"
            raise ValueError(message)
        if files:
            clash = [
                name
                for name, value in explicit.items()
                if value is not None and not isinstance(value, DocumentKey)
            ]
            if clash:
                message = (
                    f"got {files[0]} and also {', '.join(clash)}; give the file or the numbers"
                )
                raise ValueError(message)
            return self
        missing = [name for name, value in explicit.items() if value is None]
        if missing:
            message = f"missing {', '.join(missing)}; give them, or a `poni` or `nexus` file"
            raise ValueError(message)
        if (self.wavelength_angstrom is None) == (self.energy_kev is None):
            message = "give exactly one of wavelength_angstrom and energy_kev"
            raise ValueError(message)
        return self

    @property
    def wavelength(self) -> float | None:
        """Wavelength in angstrom, None when the file or each frame's documents hold it."""
        if isinstance(self.energy_kev, float):
            return HC_KEV_ANGSTROM / self.energy_kev
        return self.wavelength_angstrom if isinstance(self.wavelength_angstrom, float) else None

    @property
    def changes_per_frame(self) -> tuple[str, ...]:
        """The keys in the documents that wavelength and distance come from."""
        values = (self.wavelength_angstrom, self.energy_kev, self.distance_mm)
        return tuple(value.from_ for value in values if isinstance(value, DocumentKey))


class GridSettings(Settings):
    """The polar grid: phi from 0 to 90 deg in rows, |q| from 0 to q_max in columns."""

    space: Literal["polar", "cartesian"] = Field(
        "polar",
        description="where peaks are searched: (|q|, phi), or (q_xy, q_z) for films with spots "
        "as of a single crystal",
    )

    q_max_inv_angstrom: PositiveFloat = 3.9
    shape: tuple[Annotated[int, Field(ge=32, le=8192)], Annotated[int, Field(ge=32, le=8192)]] = (
        512,
        1024,
    )
    side: Literal["fold", "right", "left"] = "fold"
    below_horizon: Literal["mask", "keep", "fold"] = Field(
        "mask", description="fold: in transmission, q_z < 0 counts as q_z > 0"
    )


class DarkStream(Settings):
    """The dark is in a stream of each run, as `dark` streams are."""

    stream: str = Field(min_length=1)
    data_key: str | None = Field(None, description="null: as for the images themselves")
    events: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="how many of its first events make the dark, with all their images"
    )


class DarkRun(Settings):
    """The dark is another run, in the raw catalogue of the Tiled server."""

    run: str = Field(min_length=1, description="its uid")
    stream: str = "primary"
    data_key: str | None = Field(None, description="null: its only image key")
    file: Path | None = Field(None, description="the copy on this machine; made when needed")


class CorrectionSettings(Settings):
    """Corrections of the counts, and the noise model: variance = gain · signal + readout_noise²."""

    solid_angle: bool = True
    polarization: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        0.99, description="degree of horizontal polarisation; null = no correction"
    )
    dummy: tuple[float, ...] = Field((), description="values that mean no data in float frames")
    gain: PositiveFloat | None = Field(
        None, description="counts per photon; null = 1 for integer frames, estimated for float ones"
    )
    readout_noise: Annotated[float, Field(ge=0)] = 0.0
    dark: FilePath | DarkStream | DarkRun | None = Field(
        None,
        description="counts without beam: npy, edf, tiff or h5; a stack is averaged. Or "
        "{stream: dark} of each run, or {run: UID} of another one",
    )
    flat: FilePath | None = Field(
        None, description="relative sensitivity, about 1, divided by; zero and NaN = no data"
    )
    saturation: PositiveFloat | None = Field(
        None, description="raw counts from which on a pixel is no data"
    )
    air_attenuation_per_m: Annotated[float, Field(ge=0, le=1000)] | None = Field(
        None, description="linear attenuation of the gas between sample and detector, 1/m"
    )
    sensor_transmission: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="share of a ray at normal incidence that crosses the sensor unabsorbed"
    )
    replace_outliers: bool = Field(
        True,
        description="single pixels far above all their neighbours, as hot pixels and cosmic rays, "
        "get their neighbours' median",
    )
    monitor: DocumentKey | None = Field(
        None, description="counts are divided by it; its scale sets what counts as 1"
    )
    sum_frames: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1, description="consecutive images of a run that are summed and analysed as one frame"
    )
    critical_angle_deg: Annotated[float, Field(gt=0, lt=5)] | None = Field(
        None, description="of the film; gives q_z inside it; null = no correction for refraction"
    )

    @property
    def dark_file(self) -> Path | None:
        """The file that holds the dark, None where each run has its own or there is none.

        Of another run it is the copy on this machine, None until that is made.
        """
        return self.dark.file if isinstance(self.dark, DarkRun) else _path(self.dark)


def _path(value: object) -> Path | None:
    return value if isinstance(value, Path) else None


class ContrastSettings(Settings):
    """Equalisation for the network; a network's own manifest overrides it."""

    percentiles: tuple[
        Annotated[float, Field(ge=0, lt=50)], Annotated[float, Field(gt=50, le=100)]
    ] = Field((0.01, 99.99), description="darkest and brightest values; 0 and 100 = the extremes")
    log_strength: PositiveFloat = 5000.0
    clip_limit: PositiveFloat = 2000.0
    tiles: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 1)


class DetectorSettings(Settings):
    """Which weights find the peaks, on which device, above which score."""

    weights: WeightsName = Field(
        "default", description="default, classical, gixi-2022, … or a path"
    )
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")
    engine: Literal["auto", "torch", "onnx", "openvino"] = Field(
        "auto",
        description="what runs the network on the CPU; auto: the fastest that is installed",
    )
    max_peaks: Annotated[int, Field(ge=1, le=10000)] = 300


class MatchingSettings(Settings):
    """Candidate structures and how far a peak may lie from a line."""

    cif: tuple[FilePath, ...] = ()
    max_dq_inv_angstrom: PositiveFloat = 0.03
    max_lattice_strain: Annotated[float, Field(ge=0, lt=0.2)] = Field(
        0.01, description="largest isotropic deviation of the lattice from the CIF"
    )

    zero_error_inv_angstrom: PositiveFloat = Field(
        0.002,
        description="standard uncertainty of the shift of |q| that all lines of a frame share: "
        "beam centre, sample height",
    )

    @field_validator("cif", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

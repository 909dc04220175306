"""Settings of the processing stages: light to import, strict, relative paths already resolved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

__all__ = [
    "WEIGHTS_FILES",
    "ContrastSettings",
    "CorrectionSettings",
    "DetectorSettings",
    "FetchedFile",
    "FilePath",
    "GeometrySettings",
    "GivenPerFrame",
    "GridSettings",
    "MaskFile",
    "MatchingSettings",
    "Settings",
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


class GivenPerFrame(Settings):
    """A value that comes with each frame; subclasses say from where, and `str` names the place."""


class FetchedFile(Settings):
    """A file that is made on this machine before the first frame; `str` names where it is from."""

    file: Path | None = Field(None, description="the copy on this machine; made when needed")


PerFrame = SerializeAsAny[InstanceOf[GivenPerFrame]]
IncidenceAngle = Annotated[float, Field(ge=0, lt=90)]


class MaskFile(Settings):
    """A mask in a file, and which of its values are good pixels."""

    file: FilePath = Field(description="npy, edf, tiff, h5, FILE::DATASET of an HDF5 file")
    good: Literal[0, 1] = Field(
        0, description="value of good pixels; 0: nonzero = masked, 1: zero = masked"
    )


ArmAngle = Annotated[float, Field(gt=-90, lt=90)]


class GeometrySettings(Settings):
    """The geometry: explicit numbers, a PONI file or a NeXus file."""

    wavelength_angstrom: PositiveFloat | PerFrame | None = None
    energy_kev: PositiveFloat | PerFrame | None = None
    distance_mm: PositiveFloat | PerFrame | None = Field(
        None, description="sample to detector; beside a file only what comes with each frame"
    )
    pixel_size_mm: tuple[PositiveFloat, PositiveFloat] | None = Field(
        None, description="rows, columns"
    )
    beam_center_px: tuple[float, float] | None = Field(
        None, description="row, column after `flip`; pixel centres at integers"
    )
    incidence_angle_deg: IncidenceAngle | PerFrame = 0.0
    arm_in_plane_deg: ArmAngle | PerFrame = Field(
        0.0, description="turn of the detector about the sample towards growing columns"
    )
    arm_out_of_plane_deg: ArmAngle | PerFrame = Field(
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
    roi_offset_px: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = Field(
        None,
        description="row, column of the detector at which the frames begin, as they are read; for "
        "frames of a region where `poni` or `nexus` describes the whole detector",
    )
    mask: FilePath | MaskFile | None = Field(
        None,
        description="npy, edf, tiff or h5 (FILE::DATASET); nonzero = masked, or {file: FILE, "
        "good: 1} for a mask whose good pixels are not zero",
    )

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
                if value is not None and not isinstance(value, GivenPerFrame)
            ]
            if clash:
                message = (
                    f"got {files[0]} and also {', '.join(clash)}; give the file or the numbers"
                )
                raise ValueError(message)
            return self
        if self.roi_offset_px is not None:
            message = (
                "got roi_offset_px without poni or nexus; beam_center_px counts from the first "
                "pixel of the region"
            )
            raise ValueError(message)
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
        """Wavelength in angstrom, None when the file holds it or it comes with each frame."""
        if isinstance(self.energy_kev, float):
            return HC_KEV_ANGSTROM / self.energy_kev
        return self.wavelength_angstrom if isinstance(self.wavelength_angstrom, float) else None

    @property
    def mask_file(self) -> MaskFile | None:
        """The mask with the value of its good pixels, None without a mask."""
        return MaskFile(file=self.mask) if isinstance(self.mask, Path) else self.mask

    @property
    def changes_per_frame(self) -> tuple[str, ...]:
        """Sources of wavelength and distance, if they come with each frame."""
        values = (self.wavelength_angstrom, self.energy_kev, self.distance_mm)
        return tuple(str(value) for value in values if isinstance(value, GivenPerFrame))


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
    dark: FilePath | PerFrame | SerializeAsAny[InstanceOf[FetchedFile]] | None = Field(
        None, description="counts without beam: npy, edf, tiff or h5; a stack is averaged"
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
    monitor: PerFrame | None = Field(None, description="counts are divided by it")
    sum_frames: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1, description="consecutive images of a run that are summed and analysed as one frame"
    )
    critical_angle_deg: Annotated[float, Field(gt=0, lt=5)] | None = Field(
        None, description="of the film; gives q_z inside it; null = no correction for refraction"
    )

    @property
    def dark_file(self) -> Path | None:
        """The file that holds the dark, None where it comes with each frame or there is none.

        Of one that is fetched it is the copy on this machine, None until that is made.
        """
        return self.dark.file if isinstance(self.dark, FetchedFile) else _path(self.dark)


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
    """The detector of peaks: weights, device and score threshold."""

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

    temporal_prior: bool = Field(
        False,
        description="whether a phase of one frame is likelier in the next one; for runs and "
        "series, where a frame judged alone has no memory",
    )

    @field_validator("cif", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

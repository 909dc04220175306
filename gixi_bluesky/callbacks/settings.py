"""Settings of the document side: which runs and keys, where files may lie, how much may wait."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import BeforeValidator, Field, field_validator

from gixi_bluesky.processing.settings import (
    CorrectionSettings,
    DetectorSettings,
    FilePath,
    GeometrySettings,
    GridSettings,
    MatchingSettings,
    PositiveFloat,
    Settings,
)
from gixi_bluesky.processing.steps.settings import StepSettings
from gixi_bluesky.processing.tracks.settings import TrackSettings
from gixi_bluesky.tiled_adapters.settings import OutputSettings, TiledSettings

__all__ = [
    "AnalysisConfig",
    "InputSettings",
    "Pairs",
    "QueueSettings",
    "SlurmSettings",
    "StoreConfig",
]


def _mapping(value: Any) -> Any:
    return dict(value) if isinstance(value, list | tuple) else value


# Documents cannot hold mappings with any key, so stored configurations have pairs instead.
Pairs = BeforeValidator(_mapping)


class InputSettings(Settings):
    """The selection to analyse: stream and image key, and the runs by their start document."""

    stream: str = "primary"
    data_key: str | None = Field(None, description="null: exactly one 2-D image key must exist")
    select: Annotated[dict[str, Any], Pairs] = Field(
        default_factory=dict, description="keys and values that the start document must have"
    )
    roots: tuple[FilePath, ...] = Field((), description="files are read only below these folders")
    root_map: Annotated[dict[str, str], Pairs] = Field(
        default_factory=dict, description="prefix in the documents → prefix on this machine"
    )
    specs: dict[str, str] = Field(
        default_factory=dict,
        description="spec of resource documents here → the known one that lays files alike",
    )
    file_timeout_s: PositiveFloat = Field(
        10.0, description="how long to wait for a file or dataset that is not there yet"
    )


class QueueSettings(Settings):
    """Limits of the queue between the RunEngine and the pipeline, and the overflow policy."""

    max_mib: PositiveFloat = 512.0
    overflow: Literal["spill", "drop_oldest"] = "spill"
    spill_directory: FilePath | None = Field(
        None, description="null: the system's temporary folder"
    )
    frame_timeout_s: PositiveFloat = Field(
        120.0, description="a frame that takes longer is failed, and its process replaced"
    )
    exit_wait_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        30.0, description="how long leaving Python waits for frames that are not stored"
    )
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = Field(
        "auto", description="analysis processes; auto: usable cores minus one, one with a GPU"
    )
    worker_threads: Annotated[int, Field(ge=1, le=64)] = 1
    worker_memory_gib: Literal["auto"] | PositiveFloat | None = Field(
        "auto",
        description="private memory of one analysis process; auto: its share of four fifths of "
        "the memory, at least 4; null: as much as there is",
    )


class SlurmSettings(Settings):
    """Options of every submission to a site's Slurm; options of the command take precedence."""

    partition: str | None = None
    time: str | None = Field(None, description="time limit as Slurm writes it: 1-00:00:00")
    account: str | None = None
    qos: str | None = None
    sbatch: tuple[str, ...] = Field(
        (), description="more options of sbatch: --constraint=a100, --gres=gpu:a100:1"
    )
    prologue: tuple[str, ...] = Field(
        (), description="shell lines before the consumer: module load cuda"
    )

    @field_validator("time", mode="before")
    @classmethod
    def _not_a_number(cls, value: object) -> object:
        """Refuse a time limit that YAML parsed as a number to the base of sixty, as 12:00:00."""
        if isinstance(value, int):
            message = "YAML reads a time limit as a number; put it in quotes, as '12:00:00'"
            raise ValueError(message)
        return value


class StoreConfig(Protocol):
    """The parts of a configuration that say where derived runs are stored."""

    @property
    def output(self) -> OutputSettings: ...  # noqa: D102
    @property
    def tiled(self) -> TiledSettings: ...  # noqa: D102


class AnalysisConfig(StoreConfig, Protocol):
    """The parts of a configuration that the callbacks use themselves; `config.Config` has them.

    The whole of it goes on to the pipeline in the analysis processes.
    """

    @property
    def geometry(self) -> GeometrySettings: ...  # noqa: D102
    @property
    def corrections(self) -> CorrectionSettings: ...  # noqa: D102
    @property
    def input(self) -> InputSettings: ...  # noqa: D102
    @property
    def queue(self) -> QueueSettings: ...  # noqa: D102
    @property
    def steps(self) -> tuple[StepSettings, ...]: ...  # noqa: D102
    @property
    def grid(self) -> GridSettings: ...  # noqa: D102
    @property
    def detector(self) -> DetectorSettings: ...  # noqa: D102
    @property
    def matching(self) -> MatchingSettings: ...  # noqa: D102
    @property
    def tracks(self) -> TrackSettings: ...  # noqa: D102
    @property
    def textures(self) -> Sized: ...  # noqa: D102

    def model_copy(  # noqa: D102
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> Self: ...

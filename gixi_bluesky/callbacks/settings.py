"""Settings of the document side: which runs and keys, where files may lie, how much may wait."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from gixi_bluesky.processing.settings import PositiveFloat, Settings

__all__ = ["InputSettings", "Pairs", "QueueSettings"]


def _mapping(value: Any) -> Any:
    return dict(value) if isinstance(value, list | tuple) else value


# Documents cannot hold mappings with any key, so stored configurations have pairs instead.
Pairs = BeforeValidator(_mapping)


class InputSettings(Settings):
    """What is analysed: the stream and image key, and the runs by their start document."""

    stream: str = "primary"
    data_key: str | None = Field(None, description="null: exactly one 2-D image key must exist")
    select: Annotated[dict[str, Any], Pairs] = Field(
        default_factory=dict, description="keys and values that the start document must have"
    )
    roots: tuple[Path, ...] = Field((), description="files are read only below these folders")
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
    """What may wait between the RunEngine and the pipeline, and what happens beyond."""

    max_mib: PositiveFloat = 512.0
    overflow: Literal["spill", "drop_oldest"] = "spill"
    spill_directory: Path | None = Field(None, description="null: the system's temporary folder")
    frame_timeout_s: PositiveFloat = Field(
        120.0, description="a frame that takes longer counts as a death of the worker"
    )
    worker_threads: Annotated[int, Field(ge=1, le=64)] = 1

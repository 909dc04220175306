"""Settings of users' steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, PrivateAttr, model_validator

from gixi_bluesky.processing.settings import Settings

__all__ = ["StepSettings", "Steps"]


class StepSettings(Settings):
    """A step by the name of its entry point, with the parameters that its class takes."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,39}$", description="its entry point")
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    # Only the command line sets these: a configuration must not name code by a path.
    _file: Path | None = PrivateAttr(None)
    _class_name: str = PrivateAttr("")

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and {"file", "class_name"} & value.keys():
            message = (
                "a configuration names steps by their entry points in gixi_bluesky.steps; give a "
                "file on the command line, --step FILE::CLASS"
            )
            raise ValueError(message)
        return value

    @classmethod
    def of_file(cls, file: Path, class_name: str) -> StepSettings:
        """Return the step of a class in a file, as the command line names it."""
        step = cls(name="from_file")
        step._file, step._class_name = file.absolute(), class_name
        return step

    @property
    def file(self) -> Path | None:
        """The file that holds the class, None = an entry point."""
        return self._file

    @property
    def class_name(self) -> str:
        """The class in the file."""
        return self._class_name


Steps = tuple[StepSettings, ...]

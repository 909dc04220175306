"""Settings of textures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gixi_bluesky.processing.cuts.settings import CutName, CutSettings, Range
from gixi_bluesky.processing.settings import Settings

__all__ = ["TextureSettings", "Textures"]


def _tilt(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= limits[0] < limits[1] <= 90:
        message = f"got {list(limits)} deg; expected two angles from the surface normal, 0 to 90"
        raise ValueError(message)
    return limits


Tilt = Annotated[tuple[float, float], AfterValidator(_tilt)]


class TextureSettings(Settings):
    """One ring whose orientation is summed up in numbers."""

    q: Range = Field(description="|q| of the ring, 1/angstrom")
    background: Annotated[tuple[Range, ...], Field(max_length=2)] = Field(
        (), description="one or two ranges of |q| beside the ring"
    )
    side: Literal["fold", "right", "left"] | None = Field(None, description="null = as grid.side")
    phase: str = Field("", max_length=60, description="slug of the phase that the ring belongs to")
    face_on_deg: Tilt = Field(
        (0.0, 45.0), description="tilts from the normal that count as face-on"
    )
    edge_on_deg: Tilt = Field((45.0, 90.0), description="tilts that count as edge-on")
    bins: Annotated[int, Field(ge=18, le=1800)] = 90

    @property
    def cut(self) -> CutSettings:
        """The cut along phi that holds the ring's intensity."""
        return CutSettings(
            along="phi",
            q=self.q,
            phi=(0.0, 90.0),
            background=self.background,
            side=self.side,
            bins=self.bins,
        )


Textures = Mapping[CutName, TextureSettings]

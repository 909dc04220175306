"""Settings of cuts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from gixi_bluesky.processing.settings import Settings

__all__ = ["ACROSS", "UNITS", "Along", "CutName", "CutSettings", "Cuts", "Range"]

Along = Literal["q", "phi", "q_xy", "q_z"]

# The coordinate that limits a cut, by the coordinate that it runs along.
ACROSS: Mapping[Along, Along] = {"q": "phi", "phi": "q", "q_xy": "q_z", "q_z": "q_xy"}
UNITS: Mapping[Along, str] = {
    "q": "1/angstrom",
    "phi": "deg",
    "q_xy": "1/angstrom",
    "q_z": "1/angstrom",
}


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if not (all(map(math.isfinite, limits)) and limits[0] < limits[1]):
        message = f"got {list(limits)}; expected two numbers, the lower one first"
        raise ValueError(message)
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_rising)]


class CutSettings(Settings):
    """One cut: the coordinate it runs along, and the range of the coordinate across it."""

    along: Along
    q: Range | None = Field(None, description="|q|, 1/angstrom")
    phi: Range | None = Field(None, description="polar angle, deg; 0 along q_xy, 90 along q_z")
    q_xy: Range | None = Field(None, description="in-plane component of q, 1/angstrom")
    q_z: Range | None = Field(None, description="out-of-plane component of q, 1/angstrom")
    background: Annotated[tuple[Range, ...], Field(max_length=2)] = Field(
        (), description="one or two ranges across; their mean, or the line through both, is taken"
    )
    side: Literal["fold", "right", "left", "both"] | None = Field(
        None,
        description="of the beam; null = as grid.side. both: q_xy and phi carry the sign of q_xy",
    )
    bins: Annotated[int, Field(ge=2, le=20_000)] | None = Field(
        None, description="null = 0.5 deg along phi, else as fine as the polar grid's |q|"
    )
    spacing: Literal["linear", "log"] = Field("linear", description="of the bins; log along q only")

    @model_validator(mode="after")
    def _consistent(self) -> CutSettings:
        across = ACROSS[self.along]
        strange = [
            name
            for name in UNITS
            if name not in (self.along, across) and getattr(self, name) is not None
        ]
        if strange:
            message = (
                f"a cut along {self.along} is limited by {across}; got {', '.join(strange)} too"
            )
            raise ValueError(message)
        if self.across_range is None and self.along != "q":
            message = f"a cut along {self.along} needs a range of {across}, such as [1.0, 1.1]"
            raise ValueError(message)
        if self.background and self.across_range is None:
            message = "a background needs a range across the cut"
            raise ValueError(message)
        if self.spacing == "log" and (self.along != "q" or self.q is None or self.q[0] <= 0):
            message = "spacing: log needs along: q and a range of q above zero"
            raise ValueError(message)
        return self

    @property
    def across(self) -> Along:
        """The coordinate across the cut."""
        return ACROSS[self.along]

    @property
    def across_range(self) -> tuple[float, float] | None:
        """The range of the coordinate across the cut, None = all."""
        limits: tuple[float, float] | None = getattr(self, self.across)
        return limits

    @property
    def axis_range(self) -> tuple[float, float] | None:
        """The range along the cut, None = what the grid and the detector reach."""
        limits: tuple[float, float] | None = getattr(self, self.along)
        return limits


CutName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,39}$")]
Cuts = Mapping[CutName, CutSettings]

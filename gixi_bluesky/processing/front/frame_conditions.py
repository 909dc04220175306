"""The conditions of each frame: given with it, or as the configuration says."""

from __future__ import annotations

from dataclasses import replace

from gixi_bluesky.errors import GeometryError
from gixi_bluesky.processing.geometry.conditions import Conditions, sources
from gixi_bluesky.processing.settings import CorrectionSettings, GeometrySettings

__all__ = ["FrameConditions"]


class FrameConditions:
    """Completes what is known of a frame by the configured incidence angle."""

    def __init__(self, geometry: GeometrySettings, corrections: CorrectionSettings) -> None:
        self._sources = sources(geometry, corrections)
        self._configured = geometry.incidence_angle_deg

    def of(self, given: Conditions | None, angle_deg: float | None = None) -> Conditions:
        """Return the conditions of a frame with `angle_deg`, or else the configured angle.

        Raises GeometryError when the configuration needs one that is missing.
        """
        given = given or Conditions()
        if angle_deg is not None:
            given = replace(given, incidence_angle_deg=angle_deg)
        known = given.given()
        for name, source in self._sources.items():
            if name not in known:
                message = (
                    f"the configuration takes {name} from {source}; give {name} for a frame that "
                    "has none"
                )
                raise GeometryError(message)
        if given.incidence_angle_deg is None and isinstance(self._configured, float):
            return replace(given, incidence_angle_deg=self._configured)
        return given

"""Conditions that may change from frame to frame: angles, energy, distance, beam intensity."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from gixi_bluesky.processing.settings import (
    CorrectionSettings,
    GeometrySettings,
    GivenPerFrame,
)

__all__ = ["ANGLES", "Conditions", "sources"]

ANGLES = ("incidence_angle_deg", "arm_in_plane_deg", "arm_out_of_plane_deg")
_GEOMETRY = (*ANGLES, "wavelength_angstrom", "energy_kev", "distance_mm")


@dataclass(frozen=True, slots=True)
class Conditions:
    """The values of one frame; None = as the configuration says.

    monitor: what the counts are divided by
    """

    incidence_angle_deg: float | None = None
    wavelength_angstrom: float | None = None
    energy_kev: float | None = None
    distance_mm: float | None = None
    arm_in_plane_deg: float | None = None
    arm_out_of_plane_deg: float | None = None
    monitor: float | None = None

    def given(self) -> dict[str, float]:
        """Return the values that are not None, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def rounded(self) -> Conditions:
        """Return them without the last digits of an encoder, which no pixel sees.

        1e-4 deg, 1e-3 mm and six digits of the energy; the monitor changes no map.
        """
        return replace(
            self,
            **{name: _round(getattr(self, name), 4) for name in ANGLES},
            wavelength_angstrom=_digits(self.wavelength_angstrom),
            energy_kev=_digits(self.energy_kev),
            distance_mm=_round(self.distance_mm, 3),
            monitor=None,
        )

    def applied(self, settings: GeometrySettings) -> GeometrySettings:
        """Return the settings with these values in their places."""
        values: dict[str, float | None] = {
            name: value for name, value in self.given().items() if name in _GEOMETRY
        }
        if "energy_kev" in values:
            values["wavelength_angstrom"] = None
        elif "wavelength_angstrom" in values:
            values["energy_kev"] = None
        return settings.model_copy(update=values)


def sources(
    geometry: GeometrySettings, corrections: CorrectionSettings
) -> dict[str, GivenPerFrame]:
    """Return which conditions come with each frame, by the name they have here."""
    values = {name: getattr(geometry, name) for name in _GEOMETRY}
    values["monitor"] = corrections.monitor
    return {name: value for name, value in values.items() if isinstance(value, GivenPerFrame)}


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")

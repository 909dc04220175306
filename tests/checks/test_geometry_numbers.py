"""Numbers that no scattering experiment has are doubted, with the likely cause."""

from __future__ import annotations

import pytest

from gixi_bluesky.checks.geometry_numbers import doubtful_numbers, doubtful_placement
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.settings import GeometrySettings

SHAPE = (300, 320)
GOOD = {
    "wavelength_angstrom": 0.6888,
    "distance_mm": 300.0,
    "pixel_size_mm": [0.5, 0.5],
    "beam_center_px": [20.0, 40.0],
    "incidence_angle_deg": 0.3,
}


def doubts(**changes: object) -> list[str]:
    settings = GeometrySettings.model_validate({**GOOD, **changes})
    geometry = Geometry.from_settings(settings)
    return doubtful_numbers(geometry, settings) + doubtful_placement(geometry, SHAPE, 3.0)


def test_a_usual_set_up_is_not_doubted() -> None:
    assert doubts() == []


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"distance_mm": 0.8}, "were metres meant? distance_mm: 800"),
        ({"distance_mm": 300_000.0}, "were micrometres meant? distance_mm: 300"),
        ({"wavelength_angstrom": 0.06888}, "were nanometres meant? wavelength_angstrom: 0.6888"),
        ({"wavelength_angstrom": 68.88}, "is unusual; energy_kev"),
        ({"pixel_size_mm": [172.0, 172.0]}, "pixel_size_mm is in millimetres"),
        ({"incidence_angle_deg": 0.0}, "set geometry.incidence_angle_deg"),
        ({"incidence_angle_deg": 30.0}, "is not grazing"),
        ({"beam_center_px": [20.0, 4000.0]}, "column 4000 of a detector of 320 columns"),
        ({"beam_center_px": [280.0, 40.0]}, "geometry.flip is vertical"),
        ({"distance_mm": 3000.0}, "most of it stays empty"),
    ],
)
def test_what_is_unlikely_is_reported_with_its_cause(
    changes: dict[str, object], reported: str
) -> None:
    found = doubts(**changes)
    assert any(reported in doubt for doubt in found), found

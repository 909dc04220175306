"""The frames that `bench` simulates: for any way in which a detector may lie, full of peaks."""

from __future__ import annotations

import pytest

from gixi_bluesky.bench import beamline, simulated_frames
from gixi_bluesky.config import Config
from gixi_bluesky.processing import Pipeline


def small(**geometry: object) -> Config:
    """The beamline with an eighth of the pixels along each side, and a smaller grid."""
    config = beamline()
    update = {"pixel_size_mm": (1.6, 1.6), "beam_center_px": (27.0, 68.0), **geometry}
    return config.model_copy(
        update={
            "geometry": config.geometry.model_copy(update=update),
            "grid": config.grid.model_copy(update={"shape": (128, 512)}),
            "detector": config.detector.model_copy(update={"weights": "classical"}),
        }
    )


def test_the_beamline_is_the_default_grid_and_detector():
    config = beamline()
    assert config.grid.shape == (512, 1024)
    assert config.detector.weights == "default"
    assert len(config.matching.cif) > 4


@pytest.mark.parametrize(
    "geometry",
    [{}, {"flip": "none"}, {"flip": None, "orientation": 6}],
    ids=["as configured", "upright", "turned"],
)
def test_the_chain_sees_the_film_whichever_way_the_detector_lies(geometry):
    config = small(**geometry)
    frames = simulated_frames(config, 2, shape=(256, 256))
    assert frames.shape == (2, 256, 256)
    assert (frames[0] != frames[1]).any()
    found = Pipeline(config)(frames[0])
    assert found.matches.iloc[0]["phase"] == "MAPbBr3"
    assert found.matches.iloc[0]["probability"] > 0.5

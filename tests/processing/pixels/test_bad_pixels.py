"""Surveys of simulated detectors: each kind of bad pixel is found, and spots are not."""

from __future__ import annotations

import numpy as np
import pytest

from gixi_bluesky.errors import FrameError
from gixi_bluesky.processing.pixels.bad_pixels import PixelSurvey

SHAPE = (200, 240)
DEAD, HOT = (50, 60), [(80, 90), (81, 130), (199, 120)]
BLINKING = [(120, 30), (121, 200)]


def exposures(n: int, dtype: str):
    rng = np.random.default_rng(8)
    rows, columns = np.indices(SHAPE)
    film = 30.0 + 400 * np.exp(-4 * np.log(2) * ((rows - 30) ** 2 + (columns - 100) ** 2))
    for number in range(n):
        growing = film + 40 * number / n * np.exp(-0.5 * ((columns - 150) / 3) ** 2)
        frame = rng.poisson(growing).astype(dtype)
        frame[DEAD] = 0
        for pixel in HOT:
            frame[pixel] = 9200
        for pixel in BLINKING:
            frame[pixel] = 400 if number % 2 else 30
        frame[:, 160:167] = -1
        yield frame


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_each_kind_is_found_and_nothing_else(dtype):
    survey = PixelSurvey()
    for frame in exposures(12, dtype):
        if dtype == "float32":
            frame[:, 160:167] = np.nan
        survey.add(frame)
    bad = survey.result()
    assert {tuple(p) for p in np.argwhere(bad.dead)} == {DEAD}
    assert {tuple(p) for p in np.argwhere(bad.hot)} == set(HOT)
    assert {tuple(p) for p in np.argwhere(bad.blinking)} == set(BLINKING)
    assert bad.absent[:, 160:167].all()
    assert bad.counts() == {"absent": 1400, "dead": 1, "hot": 3, "blinking": 2}
    assert bad.mask.sum() == 1406


def test_a_single_frame_reports_no_blinking_pixel():
    survey = PixelSurvey()
    survey.add(next(exposures(1, "int32")))
    counts = survey.result().counts()
    assert (counts["hot"], counts["dead"], counts["blinking"]) == (3, 1, 0)


def test_what_lies_behind_a_beam_stop_is_not_dead():
    rng = np.random.default_rng(9)
    expected = np.full(SHAPE, 50.0)
    expected[80:120, 80:120] = 0.0
    survey = PixelSurvey()
    for _ in range(5):
        survey.add(rng.poisson(expected))
    dead = survey.result().dead
    assert not dead[83:117, 83:117].any()


def test_frames_of_two_shapes_and_none_are_refused():
    survey = PixelSurvey()
    with pytest.raises(FrameError, match="got no image"):
        survey.result()
    survey.add(np.zeros((4, 5), np.uint16))
    with pytest.raises(FrameError, match="expected one shape"):
        survey.add(np.zeros((5, 4), np.uint16))

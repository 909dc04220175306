"""The chain as a scientist calls it: one frame, a batch, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gixi_bluesky as gixi
from gixi_bluesky.config import Config, parse_config
from gixi_bluesky.errors import ConfigError, FrameError, GeometryError, WeightsError
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.simulation import Phase, Renderer, Scene, record
from gixi_bluesky.processing.simulation.panel import Panel
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs
from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks, columns_of

SHAPE = (300, 400)
GEOMETRY = {
    "wavelength_angstrom": 0.9763,
    "distance_mm": 110.0,
    "pixel_size_mm": [0.344, 0.344],
    "beam_center_px": [20.0, 30.0],
    "incidence_angle_deg": 0.3,
}


def config(**parts: object) -> Config:
    tree = {
        "geometry": GEOMETRY,
        "grid": {"q_max_inv_angstrom": 3.2, "shape": [128, 512]},
        "matching": {"cif": [str(path) for path in shipped_cifs().values()]},
    }
    return parse_config(tree | parts, folder=Path.cwd())


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    settings = config()
    renderer = Renderer(Geometry.from_settings(settings.geometry, SHAPE), SHAPE)
    structure = read_structure(shipped_cifs()["MAPbBr3"], q_max=3.2)
    scene = Scene(phases=(Phase(structure, counts=200.0),), air=5.0, flat=3.0)
    expected = renderer.expected(scene)
    rng = np.random.default_rng(7)
    return np.stack([record(expected, Panel(), rng) for _ in range(3)])


@pytest.fixture(scope="module")
def pipeline() -> gixi.Pipeline:
    return gixi.Pipeline(config())


def test_a_powder_is_found_indexed_and_named(pipeline: gixi.Pipeline, frames: np.ndarray) -> None:
    result = pipeline(frames[0])

    assert result.polar_image.shape == (128, 512)
    assert result.polar_image.dtype == np.float32
    assert result.q[0] == 0
    assert result.q[-1] == pytest.approx(3.2)
    assert (result.phi[0], result.phi[-1]) == (0, 90)
    best = result.matches.iloc[0]
    assert best.phase == "MAPbBr3"
    assert best.probability > 0.9
    explained = result.match_peaks.query("phase == 'MAPbBr3'")
    lines = {(1, 0, 0), (1, 1, 0), (2, 0, 0), (2, 1, 0)}
    assert lines <= set(zip(explained.h, explained.k, explained.l, strict=True))
    assert (explained.dq.abs() < 0.01).all()


def test_tables_have_the_stored_columns(pipeline: gixi.Pipeline, frames: np.ndarray) -> None:
    result = pipeline(frames[0])

    peaks, matches, match_peaks = (
        [column.name for column in columns_of(table)] for table in (Peaks, Matches, MatchPeaks)
    )
    assert list(result.peaks) == ["frame", "peak", "track", *peaks[1:]]
    assert list(result.matches) == ["frame", *matches]
    assert list(result.match_peaks) == ["frame", *match_peaks]
    assert set(result.peaks["track"]) == {-1}


def test_a_batch_gives_what_single_frames_give(pipeline: gixi.Pipeline, frames: np.ndarray) -> None:
    together = pipeline.batch(frames)

    assert [result.index for result in together] == [0, 1, 2]
    for frame, batched in zip(frames, together, strict=True):
        alone = pipeline(frame)
        np.testing.assert_array_equal(alone.polar_image, batched.polar_image)
        np.testing.assert_allclose(alone.peaks.score, batched.peaks.score, atol=1e-3)
        bin_width = alone.q[1] - alone.q[0]
        np.testing.assert_allclose(alone.peaks.q, batched.peaks.q, atol=0.01 * bin_width)


def test_every_stage_is_timed_on_the_clock_and_on_the_processor(frames: np.ndarray) -> None:
    once = gixi.Pipeline(config())
    first, *others = (once(frame) for frame in frames)
    stages = ["remap", "contrast", "sides", "detect", "measure", "match"]
    assert list(first.seconds) == list(first.cpu_seconds) == ["maps", *stages]
    for result in (*others, *once.batch(frames)):
        assert list(result.seconds) == list(result.cpu_seconds) == stages
        assert min(result.seconds.values()) > 0
        assert min(result.cpu_seconds.values()) >= 0


def test_another_angle_needs_no_mask_file_again(tmp_path: Path, frames: np.ndarray) -> None:
    mask = tmp_path / "mask.npy"
    masked = np.zeros(SHAPE, bool)
    masked[: SHAPE[0] // 3] = True
    np.save(mask, masked)
    pipeline = gixi.Pipeline(config(geometry=GEOMETRY | {"mask": str(mask)}))
    first = pipeline(frames[0], 0.3)
    mask.unlink()
    second = pipeline(frames[0], 0.4)
    whole = gixi.Pipeline(config())(frames[0], 0.4)
    data = [int(np.isfinite(one.polar_image).sum()) for one in (first, second, whole)]
    assert data[1] == pytest.approx(data[0], rel=0.02)
    assert data[1] < 0.9 * data[2]


def test_another_angle_builds_its_maps_once(frames: np.ndarray) -> None:
    pipeline = gixi.Pipeline(config())

    for angle in (0.3, 0.4, 0.3, 0.4):
        assert pipeline(frames[0], incidence_angle_deg=angle).incidence_angle_deg == angle

    assert pipeline.maps_built == 2


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint32, np.float32, np.float64])
def test_any_real_dtype_is_taken(
    pipeline: gixi.Pipeline, frames: np.ndarray, dtype: type[np.generic]
) -> None:
    assert pipeline(frames[0].astype(dtype)).matches.phase[0] == "MAPbBr3"


def test_a_frame_without_scatter_has_no_peak_and_no_phase(pipeline: gixi.Pipeline) -> None:
    result = pipeline(np.zeros(SHAPE, np.int32))

    assert len(result.peaks) == 0
    assert (result.matches.probability < 0.1).all()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.full(SHAPE, -1, np.int32), "no pixel"),
        (np.full(SHAPE, np.nan), "no pixel"),
        (np.zeros((3, *SHAPE)), "\\(rows, columns\\)"),
        (np.zeros(7), "\\(rows, columns\\)"),
        (np.zeros((0, 5)), "image"),
        (np.zeros(SHAPE, complex), "complex"),
        (np.full(SHAPE, "x"), "expected"),
    ],
)
def test_what_is_no_image_is_refused(
    pipeline: gixi.Pipeline, frame: np.ndarray, message: str
) -> None:
    with pytest.raises(FrameError, match=message):
        pipeline(frame)


def test_a_bad_frame_does_not_spoil_the_next(pipeline: gixi.Pipeline, frames: np.ndarray) -> None:
    before = pipeline(frames[1])
    with pytest.raises(FrameError):
        pipeline(np.full(SHAPE, np.nan, np.float32))
    np.testing.assert_array_equal(before.polar_image, pipeline(frames[1]).polar_image)


def test_an_angle_that_only_documents_know_must_be_given(frames: np.ndarray) -> None:
    pipeline = gixi.Pipeline(config(geometry=GEOMETRY | {"incidence_angle_deg": {"from": "th"}}))

    with pytest.raises(GeometryError, match="'th'"):
        pipeline(frames[0])
    assert pipeline(frames[0], incidence_angle_deg=0.3).incidence_angle_deg == 0.3


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"grid": {"q_max_inv_angstrom": 14.0}}, GeometryError, "reaches at most 2k"),
        ({"geometry": GEOMETRY | {"distance_mm": -1.0}}, ConfigError, "greater than 0"),
        ({"geometry": GEOMETRY | {"poni": "x.poni"}}, ConfigError, "got poni and also"),
        ({"detector": {"weights": "no-such-network"}}, WeightsError, "no-such-network"),
        ({"grid": {"qmax": 3.0}}, ConfigError, "grid.qmax: unknown key"),
    ],
)
def test_a_wrong_set_up_fails_at_start_and_says_why(
    parts: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gixi.Pipeline(config(**parts))


def test_the_hash_covers_what_decides_the_result_and_nothing_else(tmp_path: Path) -> None:
    def hash_of(**parts: object) -> str:
        return gixi.Pipeline(config(**parts)).provenance.result_hash

    moved = tmp_path / "renamed.cif"
    moved.write_bytes(shipped_cifs()["LaB6"].read_bytes())
    mask = tmp_path / "mask.npy"
    np.save(mask, np.zeros(SHAPE, bool))
    here = {"cif": [str(shipped_cifs()["LaB6"])]}

    reference = hash_of(matching=here)
    assert hash_of(matching={"cif": [str(moved)]}) == reference
    assert hash_of(matching=here, output={"directory": str(tmp_path)}) == reference
    assert hash_of(matching=here, queue={"max_mib": 1.0}) == reference
    assert hash_of(matching={}) != reference
    assert hash_of(matching=here, detector={"score_threshold": 0.6}) != reference
    assert hash_of(matching=here, grid={"side": "right"}) != reference
    assert hash_of(matching=here, geometry=GEOMETRY | {"mask": str(mask)}) != reference


CUTS = {
    "film": {"along": "q", "phi": [10, 80]},
    "ring": {"along": "phi", "q": [1.02, 1.10], "background": [[0.96, 1.0], [1.12, 1.16]]},
}


def test_cuts_come_with_the_result_and_decide_it(frames: np.ndarray) -> None:
    pipeline = gixi.Pipeline(config(cuts=CUTS, detector={"weights": "classical"}))
    result, (again, *_) = pipeline(frames[0]), pipeline.batch(frames[:1])
    assert list(result.cuts) == ["film", "ring"]
    film = result.cuts["film"]
    assert (film.unit, film.along) == ("1/angstrom", "q")
    strongest = film.axis[np.nanargmax(film.intensity)]
    assert np.abs(strongest - result.peaks["q"]).min() < 0.01
    np.testing.assert_array_equal(film.intensity, again.cuts["film"].intensity)
    without = gixi.Pipeline(config(detector={"weights": "classical"}))
    assert without.provenance.result_hash != pipeline.provenance.result_hash


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ({"a b": {"along": "q"}}, "cuts"),
        ({"ring": {"along": "phi"}}, "needs a range of q"),
    ],
)
def test_cuts_that_make_no_sense_are_refused_at_start(cuts: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(cuts=cuts)


def test_an_empty_cut_is_refused_by_its_name(frames: np.ndarray) -> None:
    pipeline = gixi.Pipeline(config(cuts={"far": {"along": "phi", "q": [3.15, 3.19]}}))
    with pytest.raises(GeometryError, match="'far' is empty"):
        pipeline(frames[0, :100, :100])


def test_textures_come_with_the_result(frames: np.ndarray) -> None:
    ring = {"q": [1.03, 1.09], "background": [[0.95, 1.0], [1.12, 1.17]], "bins": 30}
    settings = config(textures={"first": ring}, detector={"weights": "classical"})
    result = gixi.Pipeline(settings)(frames[0])
    (row,) = result.textures.to_dict("records")
    assert (row["frame"], row["name"]) == (0, "first")
    assert abs(row["hermans"]) < 4 * row["hermans_error"]  # a powder
    assert result.cuts == {}


@pytest.mark.slow
def test_a_series_follows_peaks_and_phases(pipeline: gixi.Pipeline, frames: np.ndarray) -> None:
    film = [*frames, *frames]
    series = pipeline.series(iter(film), times=[10.0 * i for i in range(len(film))])
    assert [one.index for one in series.results] == list(range(len(film)))
    single = pipeline(film[0])
    pd.testing.assert_frame_equal(
        series.results[0].peaks.drop(columns="track"), single.peaks.drop(columns="track")
    )
    assert series.peaks["track"].max() >= 2
    n_tracks = series.courses["track"].nunique()
    assert len(series.courses) == n_tracks * len(film)
    detected = series.courses[series.courses["detected"] == 1]
    named = series.peaks[series.peaks["track"] >= 0]
    assert set(zip(detected["frame"], detected["track"], strict=True)) == set(
        zip(named["frame"], named["track"], strict=True)
    )
    assert set(series.tracks["track"]) == set(series.courses["track"])
    row = series.phases.set_index("phase").loc["MAPbBr3"]
    assert (row["onset_frame"], row["onset_time"]) == (0, 0.0)  # there from the beginning
    amounts = series.phase_courses.query("phase == 'MAPbBr3'")
    assert amounts["frame"].tolist() == list(range(len(film)))


def test_a_series_needs_a_time_for_each_frame(pipeline: gixi.Pipeline, frames: np.ndarray) -> None:
    with pytest.raises(FrameError, match="got 3 times for 1 frames"):
        pipeline.series(frames[:1], times=[1.0, 2.0, 3.0])

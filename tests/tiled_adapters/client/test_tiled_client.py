from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiled.structures.core import Spec
from tiled_servers import (
    PEAKS_PER_FRAME,
    RunWriting,
    columns,
    descriptor,
    image_of,
    page,
    start_document,
)

from gixi_bluesky.errors import StoreError
from gixi_bluesky.processing.structures.cif_files import _slug
from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.schema import q_bin
from gixi_bluesky.tiled_adapters.server.embedded import EmbeddedServer

RAW_UID = str(uuid4())


def summary(phases: dict[str, float], peaks: list[float]) -> dict[str, Any]:
    return {
        "n_frames": 3,
        "n_peaks": 9,
        "peak_q": peaks,
        "q_bins": {q_bin(q): 1 for q in peaks},
        "phases": {
            queries.slug_of(name): {"name": name, "max_probability": probability}
            for name, probability in phases.items()
        },
    }


def store_summary(
    catalogue: Any, reported: dict[str, Any], *, live: bool = False, **start: Any
) -> str:
    """Store a run that consists of its metadata only."""
    document = start_document(**start)
    document.pop("tiled_specs")
    finished = {"stop": {"uid": str(uuid4()), "exit_status": "success", "gixi": reported}}
    catalogue.create_container(
        document["uid"],
        metadata={"start": document, **({"gixi_live": reported} if live else finished)},
        specs=[Spec("GIXIRun"), Spec("BlueskyRun", version="3.0")],
    )
    return str(document["uid"])


def uids(runs: list[Any]) -> list[str]:
    return [run.start["uid"] for run in runs]


@pytest.fixture(scope="module")
def run(tiled_server: EmbeddedServer) -> Any:
    catalogue = tiled_server.catalog("gixi")
    raw = tiled_server.catalog("raw")
    raw.create_container(RAW_UID, specs=[Spec("BlueskyRun", version="3.0")], metadata={})
    writing = RunWriting(
        catalogue, tiled_server.directory / "results", start_document(raw_uid=RAW_UID)
    )
    writing.flush([0, 1, 2])
    writing.stop(**summary({"MAPbBr3": 0.97}, [1.06, 2.13]))
    return catalogue[writing.uid]


def test_a_run_gives_its_tables_and_images(run: Any) -> None:
    assert run.raw_uid == RAW_UID
    assert len(run.frames()) == 3
    assert list(run.peaks().columns[:3]) == ["frame", "peak", "track"]
    assert len(run.peaks(frame=1)) == PEAKS_PER_FRAME
    assert set(run.peaks(q=(1.05, 1.15))["peak"]) == {1}
    assert len(run.matches(phase="phase-2")) == 3
    assert len(run.match_peaks()) == 3 * PEAKS_PER_FRAME
    np.testing.assert_array_equal(run.polar_image(2), image_of(2))


def test_a_run_without_tracks_lists_no_line_as_unexplained(run: Any) -> None:
    found = run.unexplained()
    assert len(found.lines) == len(found.cells) == 0


def test_a_run_finds_its_raw_run_beside_its_catalogue(run: Any) -> None:
    assert run.raw.path_parts == ["raw", RAW_UID]


def test_a_run_reports_what_it_found(run: Any) -> None:
    assert "3 frames, 9 peaks, MAPbBr3 0.97, complete" in repr(run)
    assert run.complete
    assert run.provenance["version"] == "0.1"


def test_a_notebook_shows_the_run_and_nothing_that_its_metadata_could_smuggle_in(
    catalogue: Any,
) -> None:
    reported = summary({"MAPbBr3": 0.97, "PbI2": 0.2}, [1.06])
    reported["phases"]["MAPbBr3"] |= {"n_frames": 2, "onset_frame": 1}
    uid = store_summary(catalogue, reported, sample_name="<script>film</script>")
    shown = catalogue[uid]._repr_html_()
    assert "complete: 3 frames, 9 peaks, 0 dropped, 0 failed" in shown
    assert "<td>MAPbBr3</td><td>0.97</td><td>2</td><td>1</td>" in shown
    assert shown.index("MAPbBr3") < shown.index("PbI2")
    assert "&lt;script&gt;film" in shown
    assert "<script>" not in shown


def test_tracks_gather_the_peaks_that_were_followed(
    catalogue: Any, tiled_server: EmbeddedServer
) -> None:
    writing = RunWriting(catalogue, tiled_server.directory / "results", start_document())
    rows = {
        "frame": [0, 0, 1, 1, 2],
        "peak": [0, 1, 0, 1, 0],
        "track": [7, -1, 7, 3, 7],
        "q": [1.0, 2.0, 1.1, 3.0, 1.2],
        "phi": [40.0, 0.0, 40.0, 10.0, 40.0],
        "intensity": [5.0, 1.0, 9.0, 2.0, 7.0],
    }
    others = {name: values[:1] * 5 for name, values in columns("peaks", [0]).items()}
    writing.store("event_page", page(writing.uid, "peaks", 1, {**others, **rows}))
    run = catalogue[writing.uid]
    tracks = run.tracks()
    assert tracks["track"].tolist() == [7, 3]
    longest = tracks.iloc[0]
    assert longest[["n_frames", "first_frame", "last_frame"]].tolist() == [3, 0, 2]
    assert longest["q"] == pytest.approx(1.1)
    assert longest["intensity"] == 9.0
    writing.abandon()


def test_a_run_without_followed_peaks_has_no_tracks(
    catalogue: Any, tiled_server: EmbeddedServer
) -> None:
    writing = RunWriting(catalogue, tiled_server.directory / "results", start_document())
    data = columns("peaks", [0])
    data["track"] = [-1] * len(data["track"])
    writing.store("event_page", page(writing.uid, "peaks", 1, data))
    assert catalogue[writing.uid].tracks().empty
    writing.abandon()


def test_the_course_of_a_track_has_times_and_an_unknown_track_is_an_error(
    catalogue: Any, tiled_server: EmbeddedServer
) -> None:
    writing = RunWriting(catalogue, tiled_server.directory / "results", start_document())
    rows = columns("frames", [0, 1])
    rows["raw_time"] = [100.0, 102.5]
    writing.store("event_page", page(writing.uid, "frames", 1, rows))
    course = {
        "frame": [1, 0, 0],
        "track": [4, 4, 5],
        "q": [1.01, 1.0, 2.0],
        "q_error": [0.01] * 3,
        "intensity": [7.0, -0.5, 1.0],
        "intensity_error": [1.0] * 3,
        "upper_limit": [8.6, 1.6, 2.6],
        "detected": [1, 0, 0],
        "reason": [""] * 3,
        "place_q": [1.0, 1.0, 2.0],
        "place_phi": [45.0] * 3,
    }
    writing.store("descriptor", descriptor(writing.uid, "courses"))
    writing.store("event_page", page(writing.uid, "courses", 1, course))
    run = catalogue[writing.uid]
    found = run.track(4)
    assert found["frame"].tolist() == [0, 1]
    assert found["time"].tolist() == [100.0, 102.5]
    assert found["intensity"].tolist() == [-0.5, 7.0]
    with pytest.raises(KeyError, match="no track 9"):
        run.track(9)
    writing.abandon()


def test_an_image_that_is_not_kept_is_a_clear_error(run: Any) -> None:
    with pytest.raises(StoreError, match="no image of frame 3; there are 3"):
        run.polar_image(3)


def test_runs_of_one_raw_run_are_listed_newest_first(catalogue: Any) -> None:
    raw_uid = str(uuid4())
    old = store_summary(catalogue, summary({}, []), raw_uid=raw_uid, time=1.0)
    new = store_summary(catalogue, summary({}, []), raw_uid=raw_uid, time=2.0)
    assert uids(queries.runs_for(catalogue, raw_uid)) == [new, old]
    assert queries.runs_for(catalogue, "another") == []


def test_a_raw_run_and_its_analyses_find_each_other(run: Any) -> None:
    assert run.start["uid"] in uids(queries.analyses_of(run.raw))
    assert queries.analyses_of(run) == []  # it was not analysed itself
    with pytest.raises(StoreError, match="no catalogue 'elsewhere'"):
        queries.analyses_of(run.raw, "elsewhere")


@pytest.fixture(params=["stock server", "our plugin"])
def either_server(request: Any, catalogue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queries that every Tiled server answers, and those that ours answers faster."""
    assert queries.has_fast_queries(catalogue)
    if request.param == "stock server":
        monkeypatch.setattr(queries, "has_fast_queries", lambda _: False)


@pytest.mark.usefixtures("either_server")
@pytest.mark.parametrize("live", [True, False])
def test_a_phase_is_found_by_its_name_and_probability(catalogue: Any, live: bool) -> None:
    name = f"α-FAPbI3 1.5 {uuid4()}"
    uid = store_summary(catalogue, summary({name: 0.8}, []), live=live)
    assert uids(queries.with_phase(catalogue, name, 0.8)) == [uid]
    assert queries.with_phase(catalogue, name, 0.81) == []


@pytest.mark.usefixtures("either_server")
@pytest.mark.parametrize("live", [True, False])
def test_a_peak_is_found_within_the_tolerance_only(catalogue: Any, live: bool) -> None:
    uid = store_summary(catalogue, summary({}, [3.4561]), live=live)
    for q, tolerance in ((3.4561, 0), (3.45, 0.0062), (3.47, 0.014), (3.5, 0.05)):
        assert uid in uids(queries.with_peak(catalogue, q, tolerance)), (q, tolerance)
    assert uid not in uids(queries.with_peak(catalogue, 3.45, 0.006))


@pytest.mark.usefixtures("either_server")
@pytest.mark.parametrize("live", [True, False])
def test_a_run_is_found_by_when_a_phase_began(catalogue: Any, live: bool) -> None:
    name = f"α-FAPbI3 {uuid4()}"
    reported = summary({name: 0.9, "other": 0.9}, [])
    slug = queries.slug_of(name)
    reported["phases"][slug] |= {"onset_frame": 7, "onset_time": 1000.5}
    uid = store_summary(catalogue, reported, live=live)
    without = summary({name: 0.9}, [])
    without["phases"][slug] |= {"onset_frame": None, "onset_time": None}
    store_summary(catalogue, without, live=live)
    for between in ({}, {"before": 1000.5}, {"after": 1000.5}, {"before": 2000.0, "after": 0.0}):
        assert uids(queries.with_onset(catalogue, name, **between)) == [uid], between
    for between in ({"before": 1000.4}, {"after": 1000.6}, {"before": 3.0, "after": 5.0}):
        assert queries.with_onset(catalogue, name, **between) == [], between
    assert queries.with_onset(catalogue, f"none {uuid4()}") == []


def test_unfinished_runs_are_those_without_a_stop(catalogue: Any) -> None:
    growing = store_summary(catalogue, summary({}, []), live=True)
    done = store_summary(catalogue, summary({}, []))
    found = uids(queries.unfinished(catalogue))
    assert growing in found
    assert done not in found


def test_runs_of_others_are_never_returned(catalogue: Any) -> None:
    foreign = str(uuid4())
    catalogue.create_container(
        foreign,
        metadata={"start": {"uid": foreign, "time": 3.0}},
        specs=[Spec("BlueskyRun", version="3.0")],
    )
    assert foreign not in uids(queries.unfinished(catalogue))


@given(st.text(max_size=80))
def test_a_name_has_the_slug_under_which_the_pipeline_stores_it(name: str) -> None:
    assert queries.slug_of(name) == _slug(name)


@pytest.mark.slow
def test_the_client_needs_no_torch() -> None:
    code = (
        "import sys; import gixi_bluesky.tiled_adapters.client.run\n"
        "from gixi_bluesky.tiled_adapters import queries\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_figure_is_drawn_from_the_run(run: Any, tmp_path: Path) -> None:
    run.plot().savefig(tmp_path / "overview.png")
    assert (tmp_path / "overview.png").stat().st_size > 10_000

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tiled_servers import (
    PEAKS_PER_FRAME,
    RunWriting,
    batches,
    columns,
    image_of,
    page,
    start_document,
)

from gixi_bluesky.errors import ClaimLostError, DocumentError, RunCompleteError, StoreError
from gixi_bluesky.tiled_adapters.schema import STREAMS
from gixi_bluesky.tiled_adapters.server.embedded import EmbeddedServer
from gixi_bluesky.tiled_adapters.store import tables


@pytest.fixture
def results(tiled_server: EmbeddedServer) -> Path:
    return tiled_server.directory / "results"


def assert_each_once(run: Any, frames: int) -> None:
    """Every frame, peak and image is there exactly once and numbered without gaps."""
    for stream in STREAMS:
        rows = run[stream].base["internal"].read()
        each = 1 if stream == "frames" else PEAKS_PER_FRAME
        expected = columns(stream, range(frames))
        assert len(rows) == frames * each, stream
        assert sorted(rows["seq_num"]) == list(range(1, frames * each + 1))
        rows = rows.sort_values([k for k in ("frame", "peak", "phase") if k in rows])
        for name, values in expected.items():
            assert list(rows[name]) == values, (stream, name)
    images = run["images"].base["polar_image"].read()
    np.testing.assert_array_equal(images, [image_of(frame) for frame in range(frames)])


def test_a_growing_run_is_read_by_another_client(
    catalogue: Any, tiled_server: EmbeddedServer, results: Path
) -> None:
    writing = RunWriting(catalogue, results, start_document())
    other = tiled_server.catalog("gixi")
    assert len(other[writing.uid]["peaks"].read()["frame"]) == 0
    for frames in batches(30, 10):
        writing.flush(frames)
        run = other[writing.uid]
        assert run["peaks"].read()["frame"].shape == ((frames[-1] + 1) * PEAKS_PER_FRAME,)
        np.testing.assert_array_equal(run.polar_image(frames[-1]), image_of(frames[-1]))
    writing.stop(n_frames=30)
    run = other[writing.uid]
    assert_each_once(run, 30)
    assert run.stop["exit_status"] == "success"


def test_the_tree_is_a_bluesky_run_like_any_other(
    catalogue: Any, tiled_server: EmbeddedServer, results: Path
) -> None:
    writing = RunWriting(catalogue, results, start_document())
    writing.flush([0, 1])
    writing.stop()
    names = [name for name, _ in catalogue[writing.uid].documents()]
    assert {name: names.count(name) for name in names} == {
        "start": 1,
        "descriptor": 5,
        "event": 2 * (1 + 3 * PEAKS_PER_FRAME),
        "stream_resource": 1,
        "stream_datum": 1,
        "stop": 1,
    }
    runs = {run.start["uid"]: type(run).__name__ for run in catalogue.values()}
    assert runs[writing.uid] == "GIXIRun"


def test_a_complete_run_is_not_written_again(catalogue: Any, results: Path) -> None:
    start = start_document()
    writing = RunWriting(catalogue, results, start)
    writing.flush([0])
    writing.stop()
    with pytest.raises(RunCompleteError, match="complete"):
        RunWriting(catalogue, results, start)


@pytest.mark.parametrize("stored", range(len(STREAMS)))
def test_a_run_cut_off_in_mid_flush_resumes_after_its_last_frame(
    catalogue: Any, results: Path, stored: int
) -> None:
    start = start_document()
    first = RunWriting(catalogue, results, start)
    first.flush([0, 1, 2])
    first.images([3, 4])
    for stream in STREAMS[:stored]:
        first.table(stream, [3, 4])
    first.abandon()

    second = RunWriting(catalogue, results, start)
    assert second.state.committed == {0, 1, 2}
    assert second.state.rows == {
        stream: 3 * (1 if stream == "frames" else PEAKS_PER_FRAME) for stream in STREAMS
    }
    second.flush([3, 4, 5])
    second.stop()
    assert_each_once(catalogue[start["uid"]], 6)


def test_a_server_that_forgets_the_order_of_keys_resumes_too(catalogue: Any, results: Path) -> None:
    """PostgreSQL keeps metadata as it likes; the columns of the tables stay as they were."""
    start = start_document()
    first = RunWriting(catalogue, results, start)
    first.flush([0, 1])
    first.abandon()
    for stream in STREAMS:
        node = catalogue[first.uid][stream].base
        reported = dict(node.metadata)
        reported["data_keys"] = {
            name: reported["data_keys"][name] for name in sorted(reported["data_keys"])
        }
        node.replace_metadata(reported)
    second = RunWriting(catalogue, results, start)
    second.flush([2, 3])
    second.stop()
    assert_each_once(catalogue[first.uid], 4)


def test_frames_left_out_before_a_crash_are_done_afterwards(catalogue: Any, results: Path) -> None:
    start = start_document()
    first = RunWriting(catalogue, results, start)
    first.flush([0])
    first.flush([2, 3])
    first.abandon()
    second = RunWriting(catalogue, results, start)
    assert second.state.committed == {0, 2, 3}
    second.flush([1])
    second.stop()
    assert_each_once(catalogue[start["uid"]], 4)


def test_doubled_rows_are_gone_when_the_stop_is_stored(catalogue: Any, results: Path) -> None:
    writing = RunWriting(catalogue, results, start_document())
    writing.flush([0, 1])
    late = catalogue[writing.uid]["peaks"].base["internal"]
    rows = page(writing.uid, "peaks", 4, columns("peaks", [1]))
    late.append_partition(0, tables._page_table(rows, tables.arrow_schema(_data_keys("peaks"))))
    writing.stop()
    assert_each_once(catalogue[writing.uid], 2)


def test_frames_whose_peaks_the_server_lost_are_redone(catalogue: Any, results: Path) -> None:
    start = start_document()
    first = RunWriting(catalogue, results, start)
    first.flush([0])
    first.table("frames", [1])
    with pytest.raises(StoreError, match="lost rows of 1 frames"):
        first.stop()
    first.abandon()
    second = RunWriting(catalogue, results, start)
    assert second.state.committed == {0}
    second.flush([1])
    second.stop()
    assert_each_once(catalogue[start["uid"]], 2)


def test_the_same_page_twice_is_stored_once(catalogue: Any, results: Path) -> None:
    writing = RunWriting(catalogue, results, start_document())
    sent = writing.table("peaks", [0, 1])
    writing.store("event_page", sent)
    assert len(catalogue[writing.uid].peaks()) == 2 * PEAKS_PER_FRAME
    writing.abandon()


def test_a_page_with_rows_missing_before_it_is_refused(catalogue: Any, results: Path) -> None:
    writing = RunWriting(catalogue, results, start_document())
    with pytest.raises(DocumentError, match="seq_num 5; expected consecutive rows from 1"):
        writing.store("event_page", page(writing.uid, "peaks", 5, columns("peaks", [0])))
    writing.abandon()


@pytest.mark.parametrize("stored", [True, False])
def test_an_append_whose_answer_was_lost_is_stored_once(
    catalogue: Any, results: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    writing = RunWriting(catalogue, results, start_document())
    client = writing.store._tables["peaks"]._table()
    append, calls = client.append_partition, []

    def lose_the_answer(partition: int, table: Any) -> None:
        calls.append(table)
        if stored or len(calls) > 1:
            append(partition, table)
        if len(calls) == 1:
            raise httpx.ReadTimeout("no answer")

    monkeypatch.setattr(client, "append_partition", lose_the_answer)
    page_of = page(writing.uid, "peaks", 1, columns("peaks", [0, 1]))
    with pytest.raises(StoreError, match="it will be retried"):
        writing.store("event_page", page_of)
    writing.store("event_page", page_of)  # as the run's outbox repeats it
    assert len(calls) == (1 if stored else 2)
    assert len(catalogue[writing.uid].peaks()) == 2 * PEAKS_PER_FRAME
    writing.abandon()


def test_the_live_summary_is_replaced_whole_or_in_part(catalogue: Any, results: Path) -> None:
    writing = RunWriting(catalogue, results, start_document())
    writing.store.refresh_live({"n_frames": 1, "phases": {}})
    writing.store.refresh_live({"n_frames": 5, "phases": {"a": {"max_probability": 0.7}}})
    run = catalogue[writing.uid]
    assert run.summary == {"n_frames": 5, "phases": {"a": {"max_probability": 0.7}}}
    writing.stop(n_frames=9)
    assert run.summary == {"n_frames": 9}


def test_every_node_of_a_run_gets_its_access_tags(
    catalogue: Any, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of the tests has no access policy: what it is asked for is what can be seen."""
    client, created = catalogue.context.http_client, {}
    send = client.send

    def watch(request: httpx.Request, **options: Any) -> httpx.Response:
        if request.method == "POST":
            created[request.url.path.rsplit("/api/v1/", 1)[-1]] = json.loads(request.content)
        return send(request, **options)

    monkeypatch.setattr(client, "send", watch)
    writing = RunWriting(catalogue, results, start_document(tiled_access_tags=["team"]))
    writing.flush([0])
    writing.abandon()
    tags = {path: body.get("access_tags") for path, body in created.items() if "/gixi" in path}
    tags.pop("metadata/gixi_claims", None)
    below = f"gixi/{writing.uid}"
    nodes = {"metadata/gixi", f"metadata/{below}", f"register/{below}/images"}
    nodes |= {f"metadata/{below}/{stream}" for stream in STREAMS}
    assert nodes == set(tags)
    assert all(one == ["team"] for one in tags.values()), tags
    assert "tiled_access_tags" not in created["metadata/gixi"]["metadata"]["start"]


def test_a_second_writer_is_refused_while_the_first_lives(catalogue: Any, results: Path) -> None:
    start = start_document()
    first = RunWriting(catalogue, results, start, session_s=15)
    with pytest.raises(ClaimLostError, match="another writer"):
        RunWriting(catalogue, results, start, session_s=15, patience=10)
    first.flush([0])
    first.stop()


def test_a_writer_that_slept_past_its_session_is_fenced_off(catalogue: Any, results: Path) -> None:
    start = start_document()
    sleeper = RunWriting(catalogue, results, start, session_s=1)
    sleeper.flush([0])
    _fall_asleep(sleeper)
    second = RunWriting(catalogue, results, start, session_s=1)
    second.flush([1])
    with pytest.raises(ClaimLostError, match="took over"):
        sleeper.flush([1])
    second.stop()
    with pytest.raises(ClaimLostError):
        sleeper.stop()
    assert_each_once(catalogue[start["uid"]], 2)


def test_a_starved_writer_keeps_its_run_against_a_patient_one(
    catalogue: Any, results: Path
) -> None:
    start = start_document()
    starved = RunWriting(catalogue, results, start, session_s=0.5)
    starved.flush([0])
    _fall_asleep(starved)
    with ThreadPoolExecutor() as pool:
        patient = pool.submit(RunWriting, catalogue, results, start, session_s=0.5, patience=1000)
        time.sleep(2 * 0.5)
        assert not patient.done()
        starved.flush([1])
        with pytest.raises(ClaimLostError, match="writes it"):
            patient.result(180)
    starved.stop()
    assert_each_once(catalogue[start["uid"]], 2)


def test_a_patient_writer_takes_over_in_the_end(catalogue: Any, results: Path) -> None:
    start = start_document()
    sleeper = RunWriting(catalogue, results, start, session_s=0.5)
    sleeper.flush([0])
    _fall_asleep(sleeper)
    began = time.monotonic()
    patient = RunWriting(catalogue, results, start, session_s=0.5, patience=3)
    assert time.monotonic() - began >= 3 * 0.5
    assert patient.state.committed == {0}
    with pytest.raises(ClaimLostError, match="took over"):
        sleeper.flush([1])
    patient.flush([1])
    patient.stop()
    assert_each_once(catalogue[start["uid"]], 2)


def test_a_writer_that_slept_goes_on_if_no_one_took_over(catalogue: Any, results: Path) -> None:
    sleeper = RunWriting(catalogue, results, start_document(), session_s=1)
    sleeper.flush([0])
    _fall_asleep(sleeper)
    sleeper.flush([1])
    sleeper.stop()
    assert_each_once(catalogue[sleeper.uid], 2)


def test_claims_leave_nothing_behind(tiled_server: EmbeddedServer, results: Path) -> None:
    writing = RunWriting(tiled_server.catalog("gixi"), results, start_document())
    writing.stop()
    assert not [key for key in tiled_server.client()["gixi_claims"] if key.startswith(writing.uid)]


def test_a_refused_key_is_a_store_error(tiled_server: EmbeddedServer, results: Path) -> None:
    client = tiled_server.catalog("gixi")
    client.context.api_key = None
    with pytest.raises(StoreError, match="TILED_API_KEY"):
        RunWriting(client, results, start_document())


def _fall_asleep(writing: RunWriting) -> None:
    """Do what SIGSTOP does to the claim: no beat for longer than a session."""
    writing.store._claim._stopped.set()
    writing.store._claim._last_beat -= 2


def _data_keys(stream: str) -> dict[str, Any]:
    from gixi_bluesky.tiled_adapters.schema import data_keys

    return data_keys(stream)

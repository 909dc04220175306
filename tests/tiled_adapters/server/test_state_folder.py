"""The folder of an embedded server: in use, moved, copied, not a folder."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pyarrow as pa
import pytest

from gixi_bluesky.errors import StoreError
from gixi_bluesky.tiled_adapters.server.embedded import embedded_server
from gixi_bluesky.tiled_adapters.server.state_folder import held_state, is_new


def hold(folder: Path, ready: object, done: object) -> None:
    with held_state(folder) as note:
        note("http://127.0.0.1:8123/api/v1")
        ready.set()  # type: ignore[attr-defined]
        done.wait(120)  # type: ignore[attr-defined]


def test_a_folder_is_served_once_and_the_server_is_named(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, done))
    process.start()
    try:
        assert ready.wait(120)
        with (
            pytest.raises(StoreError, match=rf"process {process.pid} at http://127\.0\.0\.1:8123"),
            held_state(tmp_path),
        ):
            pass
    finally:
        done.set()
        process.join(120)
    with held_state(tmp_path):  # free again
        pass


def test_a_file_instead_of_a_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("no folder")
    with pytest.raises(StoreError, match="cannot hold the state of a server"):  # noqa: SIM117
        with held_state(tmp_path / "results"):
            pass


@pytest.mark.slow
def test_tables_are_read_after_the_folder_was_moved(tmp_path: Path) -> None:
    before, after = tmp_path / "first place", tmp_path / "zweiter ö"
    assert is_new(before)
    table = pa.table({"q": [1.0, 2.0]})
    with embedded_server(before) as server:
        written = server.client().create_appendable_table(table.schema, key="peaks")
        written.append_partition(0, table)
    assert not is_new(before)
    before.rename(after)
    for _ in range(2):  # a second start finds nothing to rewrite
        with embedded_server(after) as server:
            assert server.client()["peaks"].read()["q"].tolist() == [1.0, 2.0]
    assert not before.exists()

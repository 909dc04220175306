"""Tables of the embedded server are read while they grow."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest

from gixi_bluesky.tiled_adapters.server.embedded import embedded_server

SCHEMA = pa.schema([("frame", pa.int64()), ("q", pa.float64())])
ROWS, APPENDS, READERS = 50, 10, 2


@pytest.mark.server
@pytest.mark.system
def test_readers_and_a_writer_of_one_table_do_not_disturb_each_other(tmp_path):
    rows = pa.table({"frame": list(range(ROWS)), "q": [0.5] * ROWS}, schema=SCHEMA)
    failures, done = [], threading.Event()
    with embedded_server(tmp_path) as server:
        table = server.client().create_appendable_table(SCHEMA, key="peaks")

        def read():
            client = server.client()
            while not done.is_set():
                try:
                    client["peaks"].read()
                except Exception as error:
                    failures.append(error)

        readers = [threading.Thread(target=read) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        try:
            for _ in range(APPENDS):
                table.append_partition(0, rows)
        finally:
            done.set()
            for reader in readers:
                reader.join()
        assert failures == []
        assert len(table.read()) == ROWS * APPENDS

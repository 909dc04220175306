from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from event_model import DocumentNames, schema_validators
from tiled_servers import columns, descriptor, page

from gixi_bluesky.processing.tables import Matches, MatchPeaks, Peaks
from gixi_bluesky.tiled_adapters.schema import (
    IMAGES,
    STREAMS,
    TABLE_KEYS,
    Column,
    complete_columns,
    q_bin,
    stored_columns,
    stored_values,
)


@pytest.mark.parametrize("stream", [*STREAMS, IMAGES])
def test_descriptors_are_valid_event_model_documents(stream: str) -> None:
    schema_validators[DocumentNames.descriptor].validate(descriptor("u", stream))


@pytest.mark.parametrize("stream", STREAMS)
def test_pages_are_valid_event_model_documents(stream: str) -> None:
    schema_validators[DocumentNames.event_page].validate(
        page("u", stream, 1, columns(stream, [0, 1]))
    )


@pytest.mark.parametrize(
    ("stream", "table"), [("peaks", Peaks), ("matches", Matches), ("match_peaks", MatchPeaks)]
)
def test_stored_order_is_that_of_the_pipeline_tables(stream: str, table: type) -> None:
    from gixi_bluesky.processing.tables import numbered

    stored = [column.name for column in stored_columns(stream)]
    assert stored == list(numbered(table.empty(), 0, track=stream == "peaks").columns)


@pytest.mark.parametrize("stream", STREAMS)
def test_every_number_has_a_unit_or_counts_something(stream: str) -> None:
    for column in stored_columns(stream):
        assert column.description
        assert column.dtype in {"<i8", "<f8"} or column.dtype.startswith("<U")
    assert set(TABLE_KEYS[stream]) <= {column.name for column in stored_columns(stream)}


def test_values_become_json_types_cut_to_their_column() -> None:
    text = Column("reason", "<U5", "", "")
    assert stored_values(text, np.array(["abcdefgh", "x"], dtype=object)) == ["abcde", "x"]
    whole = stored_values(Column("peak", "<i8", "", ""), np.array([1, 2], dtype=np.int32))
    assert whole == [1, 2]
    assert all(type(value) is int for value in whole)


def test_a_bin_is_named_by_its_lower_edge() -> None:
    assert [q_bin(q) for q in (0.0, 1.06, 1.0649, 1.07, 2.13)] == [
        "b0000",
        "b0106",
        "b0106",
        "b0107",
        "b0213",
    ]


@pytest.mark.parametrize("stream", STREAMS)
def test_tables_of_an_older_version_are_completed_in_order(stream: str) -> None:
    newest = pd.DataFrame(columns(stream, [0, 1]))
    older = newest[list(newest.columns[:-2][::-1])]
    rows = complete_columns(older, stream)
    assert list(rows.columns) == [column.name for column in stored_columns(stream)]
    pd.testing.assert_frame_equal(rows[older.columns], older)
    missing = {"f": np.nan, "i": -1, "U": ""}
    for column in stored_columns(stream)[-2:]:
        expected = missing[column.dtype[1]]
        assert rows[column.name].isin([expected]).all(), column.name

"""The source of a frame can be read by people, and by `process` where it is a file."""

from __future__ import annotations

import numpy as np
import pytest

from gixi_bluesky.callbacks.images.locations import (
    FabioImage,
    FrameRef,
    Hdf5Image,
    InlineImage,
    NpyImage,
    SpilledImage,
    SummedImages,
    TiffImage,
    Unreadable,
)
from gixi_bluesky.callbacks.images.source_names import source_name


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Hdf5Image("/a/b.h5", "/entry/data", 3), "/a/b.h5::/entry/data::3"),
        (Hdf5Image("/a/b.h5", "/d", 3, 2, (4,)), "/a/b.h5::/d::14"),
        (TiffImage("file://localhost/a/b%20c.tif"), "/a/b c.tif::0"),
        (NpyImage("/a/b.npy", 7), "/a/b.npy::7"),
        (FabioImage("/a/b.cbf"), "/a/b.cbf::0"),
        (SummedImages((TiffImage("/a.tif", 4), TiffImage("/a.tif", 5))), "/a.tif::4"),
        (InlineImage(np.zeros((2, 2))), "uid event 5"),
        (SpilledImage("/tmp/spilled.npy"), "uid event 5"),
        (Unreadable("failed", "why"), "uid event 5"),
        (Unreadable("failed", "why", "file:///a/junk.h5"), "/a/junk.h5"),
    ],
)
def test_a_source_is_named(image: FrameRef, expected: str) -> None:
    assert source_name(image, "uid", 5) == expected


def test_of_a_long_name_the_end_is_kept() -> None:
    name = source_name(TiffImage("/x" * 300 + "/end.tif"), "uid", 1)
    assert len(name) == 300
    assert name.endswith("/end.tif::0")
    assert name.startswith("…")

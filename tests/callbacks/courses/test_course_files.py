"""Files that the process of the scan and the one that measures share."""

import os
import tempfile

import numpy as np
import pytest

from gixi_bluesky.callbacks.courses.image_slots import ImageSlots
from gixi_bluesky.callbacks.courses.record_file import RecordFile


@pytest.fixture
def descriptor():
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def test_records_are_read_by_another_reader_and_by_their_offsets(descriptor):
    writer, reader = RecordFile(descriptor), RecordFile(descriptor)
    offsets = [writer.append({"n": n}) for n in range(3)]
    assert list(reader.follow(writer.end)) == [(o, {"n": n}) for n, o in enumerate(offsets)]
    assert list(reader.follow(writer.end)) == []
    writer.append("late")
    assert [record for _, record in reader.follow(writer.end)] == ["late"]
    assert reader.read(offsets[1]) == {"n": 1}


def test_a_record_that_was_cut_short_is_overwritten(descriptor):
    writer = RecordFile(descriptor)
    writer.append("whole")
    end = writer.end
    writer.append("x" * 1000)
    os.ftruncate(descriptor, writer.end - 10)
    successor = RecordFile(descriptor)
    assert [record for _, record in successor.follow(1 << 62)] == ["whole"]
    assert successor.end == end
    successor.append("next")
    again = RecordFile(descriptor)
    assert [record for _, record in again.follow(1 << 62)] == ["whole", "next"]


def test_what_is_no_record_is_an_error(descriptor):
    os.pwrite(descriptor, b"nothing of ours", 0)
    with pytest.raises(OSError, match="no record at byte 0"):
        RecordFile(descriptor).read(0)


def image(value):
    return np.full((2, 5), value, np.float32)


def test_images_come_back_and_those_that_do_not_fit_are_kept_for_a_while(descriptor):
    images = ImageSlots(descriptor, (2, 5), most_bytes=100)  # two images
    slots = [images.put(frame, image(frame)) for frame in range(40)]
    assert slots[:2] == [0, 1]
    np.testing.assert_array_equal(images.get(0, 0), image(0))
    np.testing.assert_array_equal(images.get(39, slots[39]), image(39))
    assert images.get(3, slots[3]) is None  # replaced
    assert images.get(2, 0) is None
    assert images.get(2, -1) is None


def test_an_image_of_another_shape_is_not_kept(descriptor):
    assert ImageSlots(descriptor, (2, 5)).put(0, np.zeros((5, 2), np.float32)) == -1

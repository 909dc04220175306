"""The ONNX file finds what its weights find in torch, on the grid it was exported for."""

from __future__ import annotations

import shutil
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector import find_weights, load_detector
from gixi_bluesky.processing.detector.networks import onnx_detector
from gixi_bluesky.processing.detector.networks.onnx_graph import export_onnx
from gixi_bluesky.processing.detector.weights import read_manifest, save_content
from gixi_bluesky.processing.simulation.random_scenes import random_frames

pytestmark = pytest.mark.slow  # starts processes or networks in most tests

SHAPE = (256, 514)  # no power of two


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "light.onnx"
    export_onnx(*find_weights("default"), path, SHAPE)
    return path


@pytest.fixture
def copied(exported, tmp_path) -> Path:
    for path in exported.parent.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path / exported.name


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    simulated = (
        frame.polar.intensity
        for seed in (910_100, 910_101, 910_102)
        for frame in islice(random_frames(seed, shape=SHAPE), 2)
    )
    return np.stack([*simulated, np.full(SHAPE, np.nan, np.float32)])


def test_the_same_boxes_scores_and_kinds_as_in_torch(exported, frames):
    ours, there = load_detector("default", engine="torch"), load_detector(exported, "auto")
    images = ours.prepare(frames)
    np.testing.assert_array_equal(there.prepare(frames), images)
    for expected, found in zip(ours(images), there(images), strict=True):
        assert len(found) == len(expected)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.01)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
        np.testing.assert_array_equal(found.kinds, expected.kinds)
    confident = [(found.scores > 0.5).sum() for found in there(images)]
    assert max(confident[:-1]) > 5
    assert confident[-1] == 0
    assert there(images[:0]) == []


def test_the_manifest_reports_what_it_was_made_of(exported):
    original, _ = find_weights("default")
    manifest = read_manifest(exported.with_name("light.onnx.json"))
    assert manifest.grid.shape == SHAPE
    assert manifest.name == f"{original.name}-onnx"
    assert original.sha256 in manifest.source
    assert (manifest.licence, manifest.calibration) == (original.licence, original.calibration)
    assert load_detector(exported).sha256 == manifest.sha256 != original.sha256


def test_nothing_of_the_machine_is_in_the_file(exported):
    assert str(Path(onnx_detector.__file__).parent).encode() not in exported.read_bytes()


def test_another_grid_is_refused_and_the_remedy_is_reported(exported):
    detector = load_detector(exported)
    with pytest.raises(WeightsError, match=r"exported for \(256, 514\) only.*--shape"):
        detector(np.zeros((1, 512, 1024), np.float32))
    with pytest.raises(WeightsError, match="fit multiples"):
        export_onnx(*find_weights("default"), Path("never.onnx"), (100, 256))


def test_other_devices_and_spaces_are_refused(exported):
    with pytest.raises(WeightsError, match="run on the CPU"):
        load_detector(exported, device="cuda")
    with pytest.raises(WeightsError, match="know polar images only"):
        load_detector(exported, space="cartesian")


def test_without_onnxruntime_the_extra_is_named(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(WeightsError, match=r"gixi_bluesky\[export\]"):
        load_detector(exported)


def test_a_changed_file_is_refused(copied):
    copied.write_bytes(copied.read_bytes()[:-1] + b"\x00")
    with pytest.raises(WeightsError, match="damaged or another one"):
        load_detector(copied)


def test_a_file_that_is_no_graph_is_refused(copied):
    manifest = read_manifest(copied.with_name("light.onnx.json"))
    save_content(copied, b"no graph", manifest.model_dump(exclude={"sha256"}))
    with pytest.raises(WeightsError, match="onnxruntime cannot use"):
        load_detector(copied)


def test_a_graph_of_other_input_channels_is_refused(exported, monkeypatch):
    monkeypatch.setattr(onnx_detector, "CHANNELS", onnx_detector.CHANNELS + 1)
    with pytest.raises(WeightsError, match="export the weights again"):
        load_detector(exported)


def test_only_tensors_of_a_light_network_are_exported(copied, tmp_path):
    target = tmp_path / "again.onnx"
    with pytest.raises(WeightsError, match=r"only \.safetensors of a light network"):
        export_onnx(*find_weights(copied), target, SHAPE)
    manifest, path = find_weights("default")
    other = manifest.model_copy(update={"network": "faster-rcnn"})
    with pytest.raises(WeightsError, match=r"only \.safetensors of a light network"):
        export_onnx(other, path, target, SHAPE)
    with pytest.raises(WeightsError, match=r"ends with \.onnx"):
        export_onnx(manifest, path, tmp_path / "light.safetensors", SHAPE)
    assert not target.exists()

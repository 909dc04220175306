"""The two-stage detector with weights of its own: batches, no data, grids, nothing to find."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector import load_detector
from gixi_bluesky.processing.detector.networks.backbone import Architecture
from gixi_bluesky.processing.detector.networks.faster_rcnn import FasterRCNN, FasterRCNNDetector
from gixi_bluesky.processing.detector.weights import FittingGrids, Preprocessing, save

SMALL = Architecture(widths=(8, 8, 16, 16), blocks=1, pyramid=8, hidden=8, roi=(4, 4))


def saved(folder: Path, *, bias: float = 2.0, **changes: object) -> Path:
    """Weights of a small untrained network; `bias` moves all its scores."""
    torch.manual_seed(0)
    network = FasterRCNN(SMALL)
    torch.nn.init.constant_(network.head.cls_score.bias, bias)
    manifest = {
        "name": "small",
        "network": "faster-rcnn",
        "architecture": asdict(SMALL),
        "preprocessing": Preprocessing(mean=0.3, std=0.3),
        "grid": FittingGrids(),
        "licence": "BSD-3-Clause",
        "source": "random numbers",
    }
    save(folder, network.state_dict(), {**manifest, **changes})
    return folder / "small.safetensors"


@pytest.fixture
def detector(tmp_path: Path) -> FasterRCNNDetector:
    loaded = load_detector(saved(tmp_path))
    if not isinstance(loaded, FasterRCNNDetector):
        pytest.fail(f"got a {type(loaded).__name__}")
    return loaded


def images(n: int, shape: tuple[int, int] = (64, 128)) -> np.ndarray:
    polar = np.random.default_rng(0).poisson(20, (n, *shape)).astype(np.float32)
    polar[:, :20, :30] = np.nan
    return polar


def test_finds_boxes_inside_the_image_best_first(detector):
    prepared = detector.prepare(images(2))
    assert np.isnan(prepared[:, :20, :30]).all()
    for found in detector(prepared):
        assert len(found) > 0
        assert found.boxes.dtype == found.scores.dtype == np.float32
        assert (np.diff(found.scores) <= 0).all()
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes <= [128, 64, 128, 64]).all()


def test_a_batch_gives_what_single_images_give(detector):
    # In double precision, because scores of an untrained network tie in single precision.
    network = detector._network.double()
    filled = torch.from_numpy(np.nan_to_num(detector.prepare(images(3)))).double()[:, None]
    with torch.inference_mode():
        together = network(filled)
        alone = [network(image[None])[0] for image in filled]
    for (boxes, logits), (boxes_alone, logits_alone) in zip(together, alone, strict=True):
        torch.testing.assert_close(boxes, boxes_alone, atol=1e-3, rtol=0)
        torch.testing.assert_close(logits.sigmoid(), logits_alone.sigmoid(), atol=1e-3, rtol=0)


def test_nothing_found_is_an_empty_result(tmp_path):
    detector = load_detector(saved(tmp_path, bias=-20.0))
    (found,) = detector(detector.prepare(images(1)))
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)


def test_no_images_give_no_results(detector):
    assert detector(np.empty((0, 64, 128), np.float32)) == []


def test_an_image_without_data_is_no_error(detector):
    (found,) = detector(detector.prepare(np.full((1, 64, 128), np.nan, np.float32)))
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize("shape", [(60, 128), (64, 130), (32, 128)])
def test_a_grid_that_does_not_fit_is_refused(detector, shape):
    with pytest.raises(WeightsError, match=r"polar grid of .*small fit multiples of \(32, 4\)"):
        detector(np.zeros((1, *shape), np.float32))


def test_an_architecture_that_does_not_fit_is_refused(tmp_path):
    path = saved(tmp_path, architecture={**asdict(SMALL), "pyramid": 16})
    with pytest.raises(WeightsError, match="do not fit their manifest"):
        load_detector(path)


def test_an_unknown_architecture_key_is_refused(tmp_path):
    path = saved(tmp_path, architecture={**asdict(SMALL), "colour": 3})
    with pytest.raises(WeightsError, match="colour"):
        load_detector(path)


def test_an_unknown_network_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="names the network 'diviner'"):
        load_detector(saved(tmp_path, network="diviner"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error_at_once(tmp_path):
    with pytest.raises(WeightsError, match="torch sees no GPU"):
        load_detector(saved(tmp_path), device="cuda")


def test_auto_takes_what_is_there(tmp_path):
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert load_detector(saved(tmp_path), device="auto").device == expected

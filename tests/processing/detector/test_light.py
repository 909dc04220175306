"""The light network as a detector: one image or many, with and without data, on any grid."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector import load_detector
from gixi_bluesky.processing.detector.networks import torch_pass
from gixi_bluesky.processing.detector.networks.light import LightNet
from gixi_bluesky.processing.detector.networks.light_architecture import SIZES, LightArchitecture
from gixi_bluesky.processing.detector.networks.light_detector import LightDetector
from gixi_bluesky.processing.detector.networks.second_stage import calibrated
from gixi_bluesky.processing.detector.networks.torch_pass import as_input, detect
from gixi_bluesky.processing.detector.weights import FittingGrids, Manifest, Preprocessing, save
from gixi_bluesky.processing.simulation.painted import painted_images
from gixi_bluesky.processing.simulation.seeds import EVALUATION
from gixi_bluesky.processing.types import Detections

SMALL = LightArchitecture(
    widths=(8, 8, 8, 8), blocks=(1, 1, 1), pyramid=8, pool_channels=4, hidden=8
)
GRID = FittingGrids(multiple=(32, 2), smallest=(64, 64))


def random_net(seed: int = 0) -> LightNet:
    """A network that was never trained but finds something: its priors are undone."""
    torch.manual_seed(seed)
    net = LightNet(SMALL).eval()
    torch.nn.init.zeros_(net.objectness.bias)
    return net


def manifest_of(net: LightNet, **changes: object) -> dict[str, object]:
    return {
        "name": "small",
        "network": "light",
        "architecture": asdict(net.architecture),
        "preprocessing": Preprocessing(),
        "grid": GRID,
        "licence": "BSD-3-Clause",
        "source": "random numbers",
        **changes,
    }


def arrays_of(net: LightNet) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in net.state_dict().items()}


def detector_of(net: LightNet, **changes: object) -> LightDetector:
    manifest = Manifest.model_validate({**manifest_of(net, **changes), "sha256": "0" * 64})
    return LightDetector(manifest, arrays_of(net), "cpu")


@pytest.fixture
def images() -> np.ndarray:
    rng = np.random.default_rng(3)
    made = rng.random((3, 96, 130), dtype=np.float32)
    made[1, :, 40:60] = np.nan
    made[2] = np.nan
    return made


def test_a_batch_finds_what_its_images_find_one_by_one(images):
    net = random_net()
    with_data = images[:2]  # the empty one has ties, whose order means nothing
    together = detect(net, as_input(with_data))
    for image, batched in zip(with_data, together, strict=True):
        alone = detect(net, as_input(image[None]))[0]
        assert len(alone) == len(batched) > 0
        np.testing.assert_allclose(alone.boxes, batched.boxes, atol=1e-3)
        np.testing.assert_allclose(alone.scores, batched.scores, atol=1e-3)


@pytest.mark.gpu
def test_a_gpu_finds_what_a_cpu_finds_whatever_the_batch():
    here, there = load_detector("default"), load_detector("default", device="cuda")
    painted = painted_images(EVALUATION[0], (512, 1024))
    images = here.prepare(np.stack([one.intensity for one in painted])[[0, 1, 2, 3] * 3])
    expected = here(images)
    for found in (there(images), there(images), [there(image[None])[0] for image in images]):
        for one, other in zip(found, expected, strict=True):
            assert len(one) == len(other) > 0
            np.testing.assert_allclose(one.boxes, other.boxes, atol=0.05)
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)


def test_the_detector_gives_one_result_for_each_image(images):
    detector = detector_of(random_net())
    found = detector(images)
    assert [len(one) for one in found] == [len(detector(image[None])[0]) for image in images]
    assert detector(images[:0]) == []


def test_boxes_lie_on_the_image_and_the_best_comes_first(images):
    for one in detector_of(random_net())(images):
        assert one.boxes.dtype == one.scores.dtype == np.float32
        assert np.all(np.diff(one.scores) <= 0)
        assert np.all((one.boxes >= 0) & (one.boxes <= [129, 95, 129, 95]))
        assert np.all((one.scores > 0) & (one.scores <= 1))


def test_what_lies_under_no_data_is_never_looked_at(images):
    prepared = as_input(images)
    image, valid = prepared[:, 0], prepared[:, 1]
    assert valid.bool().equal(torch.from_numpy(np.isfinite(images)))
    assert torch.all(image[valid == 0] == 0)
    # The middle of the contrast is the same number as no data; only validity separates them.
    grey = np.full((1, 64, 64), 0.5, np.float32)
    blind = np.full((1, 64, 64), np.nan, np.float32)
    maps = [random_net().features(as_input(one))[0] for one in (grey, blind)]
    assert not torch.allclose(*maps)


def test_no_data_in_a_far_corner_changes_nothing_elsewhere():
    net = random_net()
    image = np.random.default_rng(0).random((1, 512, 512), dtype=np.float32)
    masked = image.copy()
    masked[:, :64, :32] = np.nan
    before, after = (net.features(as_input(one))[0].detach() for one in (image, masked))
    changed = (before - after).abs().amax(dim=(0, 1)) > 1e-6
    # At stride 2 along |q|; the receptive field reaches a few dozens of columns.
    assert changed[:8, :16].all()
    assert not changed[:, 100:].any()


@settings(max_examples=8)
@given(st.integers(2, 5), st.integers(32, 80))
def test_any_grid_of_the_manifest_is_taken(rows, columns):
    shape = (32 * rows, 2 * columns)
    image = np.random.default_rng(rows).random((1, *shape), dtype=np.float32)
    (found,) = detector_of(random_net())(image)
    assert np.all(found.boxes <= [shape[1] - 1, shape[0] - 1] * 2)


@pytest.mark.parametrize("shape", [(48, 64), (64, 65), (32, 64), (64, 32)])
def test_another_grid_is_refused(shape):
    with pytest.raises(WeightsError, match=r"change grid\.shape or detector\.weights"):
        detector_of(random_net())(np.zeros((1, *shape), np.float32))


def test_nothing_found_is_an_empty_result(images):
    (found,) = detector_of(random_net(), calibration=(1.0, -50.0))(images[:1])
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)


def test_the_second_stage_takes_no_proposals():
    net = random_net()
    maps = net.features(as_input(np.zeros((1, 64, 64), np.float32)))
    verdict = net.judge(maps, torch.empty(0, 4), torch.empty(0, dtype=torch.long))
    assert verdict.shape == (0, 8)


def test_the_second_stage_sees_its_own_image_only(images):
    net = random_net()
    box = torch.tensor([[20.0, 0.0, 26.0, 95.0], [5.0, 10.0, 11.0, 40.0]])
    with torch.no_grad():
        maps = net.features(as_input(images))
        for i in range(len(images)):
            there = net.judge(maps, box, torch.full((2,), i))
            alone = net.judge([m[i : i + 1] for m in maps], box, torch.zeros(2, dtype=torch.long))
            torch.testing.assert_close(there, alone, atol=1e-5, rtol=1e-4)


def test_saved_weights_find_the_same_when_loaded_again(tmp_path, images):
    net = random_net()
    saved = save(tmp_path, net.state_dict(), manifest_of(net, calibration=(1.5, -0.2)))
    loaded = load_detector(tmp_path / "small.safetensors", engine="torch")
    assert (loaded.name, loaded.sha256) == ("small", saved.sha256)
    for one, other in zip(
        loaded(images), detector_of(net, calibration=(1.5, -0.2))(images), strict=True
    ):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize(
    "sizes", [{"pyramid": 16}, {"depth": 3}, {"blocks": [1, 1]}, {"widths": [8, 8, 8, 16]}]
)
def test_weights_that_do_not_fit_their_manifest_are_refused(tmp_path, sizes):
    net = random_net()
    architecture = {**asdict(net.architecture), **sizes}
    save(tmp_path, net.state_dict(), manifest_of(net, architecture=architecture))
    with pytest.raises(WeightsError, match="small do not fit their manifest"):
        load_detector(tmp_path / "small.safetensors")


def test_the_contrast_is_that_of_the_manifest():
    counts = np.random.default_rng(1).poisson(5, (2, 64, 64)).astype(np.float32)
    counts[0, :8] = np.nan
    prepared = detector_of(random_net()).prepare(counts)
    assert prepared.shape == counts.shape
    np.testing.assert_array_equal(np.isnan(prepared), np.isnan(counts))
    assert np.nanmin(prepared) >= 0
    assert np.nanmax(prepared) <= 1


@given(
    st.lists(st.floats(0, 1, width=32), max_size=20),
    st.floats(0.1, 4),
    st.floats(-3, 3),
)
def test_calibration_keeps_the_order_and_drops_the_hopeless(scores, slope, offset):
    ordered = np.sort(np.array(scores, np.float32))[::-1]
    boxes = np.arange(4 * len(ordered), dtype=np.float32).reshape(-1, 4)
    found = calibrated(Detections(boxes, ordered), slope, offset)
    expected = expit(slope * logit(np.clip(ordered.astype(float), 1e-6, 1 - 1e-6)) + offset)
    above = expected >= 0.02
    np.testing.assert_allclose(found.scores, expected[above], rtol=1e-5)
    np.testing.assert_array_equal(found.boxes, boxes[above])


def test_folded_normalisations_find_the_same(images):
    net = random_net()
    for norm in (part for part in net.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
    with torch.inference_mode():
        before = net.propose(net.features(as_input(images)))
        net.fuse()
        after = net.propose(net.features(as_input(images)))
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in net.modules())
    torch.testing.assert_close(after.logits, before.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.deltas, before.deltas, rtol=1e-4, atol=1e-4)


def test_detections_report_the_kind_of_each_box_and_keep_it(images):
    (one, *_) = detect(random_net(), as_input(images[:1]))
    assert one.kinds is not None
    assert len(one.kinds) == len(one)
    assert set(one.kinds.tolist()) <= {0, 1, 2}
    best = one.above(float(np.median(one.scores)), 5)
    np.testing.assert_array_equal(best.kinds, one.kinds[: len(best)])


def test_a_frame_of_hundreds_of_peaks_is_not_cut_short():
    """Proposals are chosen by their score, not by a number that suits a frame of few peaks."""
    net = random_net()
    with torch.inference_mode():
        anchors = net.propose(net.features(torch.zeros(1, 3, 256, 512)))
    crowded, empty = (torch.full_like(anchors.logits, -9.0) for _ in range(2))
    crowded[:, ::40] = 2.0
    still = torch.zeros_like(anchors.deltas)
    both = replace(anchors, logits=torch.cat([crowded, empty]), deltas=torch.cat([still, still]))
    (boxes, scores), (few, _) = torch_pass._proposed(both)
    assert len(boxes) > 200
    assert scores.min() > 0.2
    assert 0 < len(few) <= 32


@pytest.mark.parametrize("size", SIZES)
def test_every_size_runs(size):
    net = LightNet(SIZES[size]).eval()
    (found,) = detect(net, as_input(np.random.default_rng(0).random((1, 64, 64), np.float32)))
    assert found.boxes.shape == (len(found), 4)


@given(mean=st.floats(0.2, 0.8), steep=st.floats(-2, 2), scatter=st.floats(0.01, 0.1))
@settings(max_examples=20, deadline=None)
def test_a_faint_line_stands_out_alike_whatever_the_background(mean, steep, scatter):
    """The third channel takes the local mean and scatter away."""
    rng = np.random.default_rng(0)
    image = mean + scatter * steep * np.linspace(-0.5, 0.5, 256)
    image = image + scatter * rng.normal(size=(128, 256))
    image[:, 128:131] += 2 * scatter
    over = as_input(image[None].astype(np.float32))[0, 2].numpy()
    line, beside = over[:, 128:131], over[:, 100:120]
    assert abs(beside.mean()) < 0.1
    assert beside.std() == pytest.approx(0.5, abs=0.12)
    assert line.mean() - beside.mean() == pytest.approx(1.0, abs=0.25)

"""Every engine finds the same boxes; the fastest that is installed is taken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import islice

import numpy as np
import pytest
import torch

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector import engines, find_weights, load_detector
from gixi_bluesky.processing.detector.engines import chosen_engine, faster_engine, network_threads
from gixi_bluesky.processing.detector.networks.light import LightNet
from gixi_bluesky.processing.detector.networks.light_architecture import (
    SIZES,
    LightArchitecture,
    require_shapes,
)
from gixi_bluesky.processing.detector.networks.light_input import network_input
from gixi_bluesky.processing.detector.networks.second_stage import SecondStage
from gixi_bluesky.processing.detector.networks.torch_pass import (
    Batches,
    TorchPass,
    as_input,
    detect,
    fused_network,
)
from gixi_bluesky.processing.detector.weights import load_arrays
from gixi_bluesky.processing.evaluation.scorecard import evaluation_frames
from gixi_bluesky.processing.simulation.seeds import EVALUATION
from gixi_bluesky.processing.types import Detections

pytestmark = pytest.mark.slow  # starts processes or networks in most tests

FRAMES = 6
NEVER = "expected auto, torch, onnx, openvino"


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    frames = islice(evaluation_frames(EVALUATION[0] + 500, FRAMES), FRAMES)
    detector = load_detector("default", engine="torch")
    return detector.prepare(np.stack([frame.intensity for frame in frames]))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "engine-cache"))


def require_the_same(expected: Sequence[Detections], found: Sequence[Detections]) -> None:
    """Half a pixel and 0.02 in score are promised; float32 keeps both far better."""
    assert len(found) == len(expected)
    for one, other in zip(expected, found, strict=True):
        assert len(other) == len(one)
        np.testing.assert_allclose(other.boxes, one.boxes, atol=0.05)
        np.testing.assert_allclose(other.scores, one.scores, atol=2e-3)
        np.testing.assert_array_equal(other.kinds, one.kinds)
    assert sum(int((one.scores > 0.5).sum()) for one in expected) > 10


@pytest.mark.parametrize("engine", ["auto", "openvino", "onnx"])
def test_an_engine_finds_what_torch_finds(engine, images):
    if engine not in ("auto", *engines.installed_engines()):
        pytest.skip(f"{engine} is not installed")
    detector = load_detector("default", engine=engine)
    require_the_same(load_detector("default", engine="torch")(images), detector(images))


def test_the_large_network_is_the_same_in_every_engine_too(images):
    expected = load_detector("large", engine="torch")(images[:2])
    require_the_same(expected, load_detector("large")(images[:2]))


def test_the_second_stage_on_arrays_judges_as_the_one_that_is_trained(images):
    """Training and GPUs run the whole network in torch, CPUs its second stage in numpy."""
    manifest, path = find_weights("default")
    tensors = load_arrays(manifest, path)
    architecture = LightArchitecture.from_json(manifest.architecture)
    net = fused_network(architecture, tensors, "cpu")
    dense, second = TorchPass(architecture, tensors, 1), SecondStage(architecture, tensors)
    shape = images.shape[1:]
    require_the_same(
        [detect(net, as_input(image[None]))[0] for image in images],
        [second(dense(network_input(image[None])[0]), shape) for image in images],
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_shapes_of_the_weights_are_those_of_the_network(size):
    net = LightNet(SIZES[size])
    arrays = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    require_shapes(SIZES[size], arrays)
    trained = {name for name, _ in net.named_parameters()}
    for name in trained:
        with pytest.raises(ValueError, match="is missing"):
            require_shapes(SIZES[size], {n: a for n, a in arrays.items() if n != name})
    with pytest.raises(ValueError, match="is not part of the network"):
        require_shapes(SIZES[size], {**arrays, "surplus": np.zeros(1, np.float32)})


def test_auto_takes_the_fastest_that_is_installed(monkeypatch):
    present = {"openvino", "onnxruntime", "onnx", "onnxscript"}
    monkeypatch.setattr(engines, "find_spec", lambda name: name in present or None)
    assert chosen_engine("auto", "light", "cpu") == "openvino"
    present.discard("openvino")
    assert chosen_engine("auto", "light", "cpu") == "onnx"
    present.discard("onnxscript")
    assert chosen_engine("auto", "light", "cpu") == "torch"
    assert chosen_engine("auto", "light", "cuda") == "torch"
    assert chosen_engine("auto", "faster-rcnn", "cpu") == "torch"


def test_the_fastest_engine_belongs_to_the_installation():
    assert find_spec("openvino") is not None
    assert load_detector("default").engine == "openvino"


def test_a_faster_engine_is_recommended_where_there_is_one(monkeypatch):
    assert faster_engine("openvino", "cpu") is None
    assert faster_engine("torch", "cuda") is None
    assert "set detector.engine to auto" in str(faster_engine("torch", "cpu"))
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert "pip install openvino" in str(faster_engine("torch", "cpu"))


def test_an_engine_that_cannot_run_the_network_is_refused(monkeypatch):
    with pytest.raises(WeightsError, match=NEVER):
        load_detector("default", engine="abacus")
    with pytest.raises(WeightsError, match="light networks on the CPU"):
        chosen_engine("openvino", "light", "cuda")
    with pytest.raises(WeightsError, match="light networks on the CPU"):
        chosen_engine("onnx", "faster-rcnn", "cpu")
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install openvino, or set"):
        load_detector("default", engine="openvino")


def test_a_network_takes_one_thread_unless_the_environment_says_more(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert network_threads() == 1
    for text, threads in (("3", 3), ("2,1", 2), ("0", 1), ("many", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert network_threads() == threads


def test_torch_has_its_threads_back_when_a_frame_is_done(images, monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    used: list[int] = []
    detector = load_detector("default", engine="torch")
    forward = LightNet.features

    def counting(net: LightNet, x: torch.Tensor) -> list[torch.Tensor]:
        used.append(torch.get_num_threads())
        return forward(net, x)

    monkeypatch.setattr(LightNet, "features", counting)
    detector(images[:1])
    assert used == [3]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("fits", "sizes"), [(8, [8, 3]), (3, [8, 4, 2, 2, 2, 2, 2, 1])])
def test_batches_are_halved_when_a_gpu_has_too_little_memory(fits, sizes):
    tried: list[int] = []

    def on_gpu(images: np.ndarray) -> list[Detections]:
        tried.append(len(images))
        if len(images) > fits:
            raise torch.OutOfMemoryError("out of memory")
        return [Detections(np.full((1, 4), one[0, 0]), np.ones(1)) for one in images]

    images = np.arange(11, dtype=np.float32).reshape(-1, 1, 1)
    found = Batches(on_gpu, lambda: pytest.fail("the CPU is not needed"))(images)
    assert [one.boxes[0, 0] for one in found] == list(range(11))
    assert tried == sizes


def test_the_cpu_takes_over_when_no_batch_fits_a_gpu(images):
    def on_gpu(images: np.ndarray) -> list[Detections]:
        tried.append(len(images))
        raise torch.OutOfMemoryError("out of memory")

    tried: list[int] = []
    detector = load_detector("default")
    batches = Batches(on_gpu, lambda: detector._find)
    for _ in range(2):
        require_the_same(detector._find(images), batches(images))
    assert tried == [FRAMES, FRAMES // 2, 1]


def test_the_fastest_engine_needs_no_torch():
    """Importing torch takes longer than the maps, the network and a frame together."""
    code = (
        "import sys, numpy as np\n"
        "from gixi_bluesky.processing import load_detector\n"
        "detector = load_detector('default')\n"
        "detector(np.zeros((1, 64, 64), np.float32))\n"
        "assert detector.engine == 'openvino'\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

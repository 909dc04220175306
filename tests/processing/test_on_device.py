"""The chain on a device, in torch on the CPU or a GPU, against the chain of arrays."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from real_frames import MAPBBR3, mapbbr3

import gixi_bluesky as gixi
from gixi_bluesky.bench import simulated_frames
from gixi_bluesky.config import Config, parse_config
from gixi_bluesky.errors import FrameError
from gixi_bluesky.processing.detector.contrast import equalise
from gixi_bluesky.processing.detector.networks.device_input import device_contrast, device_input
from gixi_bluesky.processing.detector.networks.light_input import network_input
from gixi_bluesky.processing.geometry.conditions import Conditions
from gixi_bluesky.processing.on_device.front import DeviceFront
from gixi_bluesky.processing.settings import ContrastSettings
from gixi_bluesky.processing.types import FrameResult

SHAPE = (384, 401)
GEOMETRY = {
    "wavelength_angstrom": 0.6888,
    "distance_mm": 162.0,
    "pixel_size_mm": [0.2, 0.2],
    "beam_center_px": [44.0, 109.0],
    "incidence_angle_deg": 0.5,
}
ON = [
    pytest.param("cpu"),
    pytest.param("cuda", marks=pytest.mark.gpu),
]


def config(
    device: str = "cpu", geometry: dict[str, Any] | None = None, **corrections: Any
) -> Config:
    tree = {
        "geometry": GEOMETRY | (geometry or {"flip": "vertical"}),
        "grid": {"q_max_inv_angstrom": 3.2, "shape": [128, 512]},
        "corrections": corrections,
        "detector": {"device": device},
    }
    return parse_config(tree, folder=Path())


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    return simulated_frames(config(), 1, SHAPE)[0]


def pair(device: str, *parts: Any, **corrections: Any) -> tuple[gixi.Pipeline, gixi.Pipeline]:
    there = gixi.Pipeline(config(device, *parts, **corrections), tensors_on_cpu=device == "cpu")
    return gixi.Pipeline(config("cpu", *parts, **corrections)), there


def require_alike(one: FrameResult, other: FrameResult) -> None:
    for name in ("intensity", "variance", "pixels"):
        expected, found = getattr(one.polar, name), getattr(other.polar, name)
        assert np.isfinite(expected).any()
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
    a, b = one.peak_table, other.peak_table
    sure = [table.score > 0.52 for table in (a, b)]
    assert sure[0].sum() > 3
    assert sure[0].sum() == sure[1].sum()
    step = one.q[1] - one.q[0]
    for i in np.flatnonzero(sure[0]):
        near = np.hypot((b.q - a.q[i]) / step, (b.phi - a.phi[i]) / 10).argmin()
        assert abs(b.q[near] - a.q[i]) < 0.02 * step
        assert b.intensity[near] == pytest.approx(a.intensity[i], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("device", ON)
@pytest.mark.parametrize("kind", ["uint16", "int32", "float32", ">i4", "uint32"])
def test_frames_of_every_dtype_give_what_arrays_give(kind, device, frame):
    """Gaps in integer frames, unknown pixels and an estimated noise in float ones."""
    dtype = np.dtype(kind)
    counts = frame if dtype.kind == "f" else frame.clip(0)
    raw = counts.astype(dtype)
    raw[60:66] = {"u": np.iinfo("u4" if dtype.itemsize == 4 else "u2").max, "i": -1, "f": np.nan}[
        dtype.kind
    ]
    here, there = pair(device)
    require_alike(here(raw), there(raw))
    whole = counts.astype(dtype)
    require_alike(here(whole), there(whole))


@pytest.mark.slow
@pytest.mark.parametrize("device", ON)
@pytest.mark.parametrize("turn", [{"flip": "both"}, {"orientation": 8}, {"orientation": 6}])
def test_dark_flat_mask_and_saturation_are_those_of_arrays(turn, device, frame, tmp_path):
    rng = np.random.default_rng(3)
    turned = {"flip": lambda a: a[:, ::-1], "orientation": lambda a: a}
    raw = turned[next(iter(turn))](frame).clip(0).astype(np.uint16)
    np.save(tmp_path / "dark.npy", rng.normal(3, 0.5, raw.shape))
    np.save(tmp_path / "flat.npy", rng.uniform(0.8, 1.25, raw.shape))
    np.save(tmp_path / "mask.npy", rng.random(raw.shape) < 0.01)
    files = {name: str(tmp_path / f"{name}.npy") for name in ("dark", "flat")}
    geometry = turn | {"mask": str(tmp_path / "mask.npy")}
    here, there = pair(device, geometry, **files, saturation=200.5, gain=1.3)
    for conditions in (Conditions(), Conditions(incidence_angle_deg=0.3)):
        one, other = (p(raw, conditions=conditions, q_image=True) for p in (here, there))
        for name in ("polar", "q_image"):
            for part in ("intensity", "variance", "pixels"):
                np.testing.assert_allclose(
                    getattr(getattr(other, name), part),
                    getattr(getattr(one, name), part),
                    rtol=2e-5,
                    atol=2e-5,
                )
        assert one.replaced_pixels == other.replaced_pixels


@pytest.mark.slow
@pytest.mark.parametrize("device", ON)
def test_a_real_frame_gives_what_arrays_give(device, shared_data):
    raw = mapbbr3(shared_data)
    tree = {"geometry": MAPBBR3.model_dump(mode="json", exclude_defaults=True)}
    real = parse_config(tree | {"detector": {"device": device}}, folder=Path())
    there = gixi.Pipeline(real, tensors_on_cpu=device == "cpu")
    require_alike(gixi.Pipeline(parse_config(tree, folder=Path()))(raw), there(raw))


@pytest.mark.parametrize("device", ON)
@pytest.mark.parametrize("shape", [(64, 96), (96, 130), (63, 65)])
def test_contrast_and_input_of_the_network_are_those_of_arrays(shape, device):
    settings = ContrastSettings()
    counts = np.random.default_rng(1).gamma(0.5, 30, shape).astype(np.float32)
    counts[:, 40:50] = np.nan
    counts[3, 3] = np.inf
    prepared = equalise(counts, settings)
    there = device_contrast(torch.from_numpy(counts).to(device), settings)
    # A logarithm may round to the next of 5000 grey levels.
    np.testing.assert_allclose(there.cpu().numpy(), prepared, atol=2e-3)
    np.testing.assert_allclose(
        device_input(torch.from_numpy(prepared[None]).to(device)).permute(0, 2, 3, 1).cpu().numpy(),
        network_input(prepared[None]),
        atol=2e-4,
    )


@pytest.mark.parametrize("level", [0.0, 7.0, np.nan])
def test_an_image_without_contrast_is_zero_where_it_has_data(level):
    counts = np.full((64, 64), level, np.float32)
    there = device_contrast(torch.from_numpy(counts), ContrastSettings())
    np.testing.assert_array_equal(there.numpy(), equalise(counts, ContrastSettings()))


@pytest.mark.slow
def test_maps_on_a_device_leave_with_those_of_their_geometry(frame):
    there = gixi.Pipeline(config(), tensors_on_cpu=True)
    for angle in np.linspace(0.1, 0.6, 10):
        there(frame, float(angle))
    gc.collect()
    assert there.maps_built == 10
    assert there._front._there is not None
    assert len(there._front._there._means) == 8


@pytest.mark.slow
def test_the_cpu_takes_over_when_a_frame_does_not_fit(monkeypatch, frame):
    here, there = pair("cpu")
    tried = []

    def full(*_: object, **__: object) -> None:
        tried.append(1)
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(DeviceFront, "_ready", full)
    for _ in range(2):
        require_alike(here(frame), there(frame))
    assert len(tried) == 2


@pytest.mark.slow
def test_a_frame_without_data_is_refused_on_a_device_too(frame):
    _, there = pair("cpu")
    with pytest.raises(FrameError, match="no pixel"):
        there(np.full(SHAPE, -1, np.int32))

"""Weights: found by name, verified before use, listed with their licence."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector import load_detector, published, weights
from gixi_bluesky.processing.detector.networks.light import LightNet
from gixi_bluesky.processing.detector.networks.light_architecture import LightArchitecture
from gixi_bluesky.processing.detector.weights import (
    FittingGrids,
    Preprocessing,
    available,
    cache_directory,
    find,
    load_tensors,
    read_manifest,
    save,
)

MANIFEST = {
    "name": "mine",
    "network": "faster-rcnn",
    "architecture": {},
    "preprocessing": Preprocessing(),
    "grid": FittingGrids(),
    "licence": "BSD-3-Clause",
    "source": "made for a test",
}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_saved_weights_are_found_by_name_and_by_path():
    save(cache_directory(), {"x": torch.arange(3.0)}, MANIFEST)
    manifest, path = find("mine")
    assert load_tensors(manifest, path)["x"].tolist() == [0, 1, 2]
    assert find(path) == (manifest, path)
    listed = {one.name: one for one in available()}
    assert listed["mine"].state == "fetched"
    assert listed["mine"].sha256 == manifest.sha256


def test_the_list_reports_what_is_there_and_under_which_licence():
    listed = {one.name: (one.state, one.licence) for one in available()}
    assert listed["classical"] == ("built in", "BSD-3-Clause")
    assert listed["gixi-2022"] == listed["gixi-2022-segments"] == ("not fetched", "GPL-3.0")


@pytest.mark.parametrize("name", ["gixi-2022", "gixi-2022-segments"])
def test_weights_that_were_not_fetched_say_how_to_fetch_them(name):
    with pytest.raises(WeightsError, match=f"run `gixi-bluesky weights fetch {name}`"):
        load_detector(name)


@pytest.mark.parametrize("name", ["nonsense", "../mine", "there/is/none.safetensors", "."])
def test_unknown_weights_are_an_error_that_lists_the_known(name):
    with pytest.raises(WeightsError, match=r"expected default, large, classical, .*gixi-2022"):
        load_detector(name)


def test_changed_weights_are_refused():
    save(cache_directory(), {"x": torch.zeros(3)}, MANIFEST)
    manifest, path = find("mine")
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(WeightsError, match="damaged or another one"):
        load_tensors(manifest, path)


def test_missing_weights_beside_their_manifest_are_an_error():
    save(cache_directory(), {"x": torch.zeros(3)}, MANIFEST)
    manifest, path = find("mine")
    path.unlink()
    with pytest.raises(WeightsError, match="cannot read the weights"):
        load_tensors(manifest, path)


def test_a_manifest_with_unknown_keys_is_refused(tmp_path):
    save(tmp_path, {"x": torch.zeros(3)}, MANIFEST)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "magic": 1}))
    with pytest.raises(WeightsError, match="no manifest of weights"):
        read_manifest(path)


def test_unpublished_names_cannot_be_fetched():
    with pytest.raises(WeightsError, match="expected one of gixi-2022, gixi-2022-segments"):
        published.fetch("gixi-2030")


def test_a_pip_that_fails_is_reported(monkeypatch):
    def refuse(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "", "ERROR: no such host\n")

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(
        WeightsError, match=r"pip could not fetch gixi==0\.0\.1: ERROR: no such host"
    ):
        published.fetch("gixi-2022")
    assert not cache_directory().exists()


def test_another_archive_is_never_opened(monkeypatch):
    def forge(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        folder = Path(command[command.index("--dest") + 1])
        with tarfile.open(folder / "gixi-0.0.1.tar.gz", "w:gz") as tar:
            info = tarfile.TarInfo("gixi-0.0.1/saved_models/save_only_largest_2.h5")
            info.size = 4
            tar.addfile(info, io.BytesIO(b"evil"))
        return subprocess.CompletedProcess([], 0, "", "")

    def opened(*_: object, **__: object) -> None:
        pytest.fail("the archive was opened")

    monkeypatch.setattr(subprocess, "run", forge)
    monkeypatch.setattr(torch, "load", opened)
    with pytest.raises(WeightsError, match="it was not opened"):
        published.fetch("gixi-2022")


def test_pip_gets_the_hash_and_no_host(monkeypatch):
    seen: list[list[str]] = []

    def record(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        requirements = Path(command[command.index("--requirement") + 1]).read_text()
        seen.append(requirements.split())
        return subprocess.CompletedProcess([], 1, "", "stop")

    monkeypatch.setattr(subprocess, "run", record)
    with pytest.raises(WeightsError):
        published.fetch("gixi-2022")
    command, requirements = seen
    assert "--require-hashes" in command
    assert not any("://" in argument for argument in command)
    assert requirements[0] == "gixi==0.0.1"
    assert requirements[1].startswith("--hash=sha256:")


def test_foreign_tensors_are_not_converted():
    with pytest.raises(WeightsError, match="tensor named intruder"):
        published.convert({"intruder": torch.zeros(1)})


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a package that ships the polar weights only."""
    folder = tmp_path / "weights"
    folder.mkdir()
    _, polar = find("light-2026")
    for suffix in (".json", ".safetensors"):
        (folder / polar.with_suffix(suffix).name).symlink_to(polar.with_suffix(suffix))
    monkeypatch.setattr(weights, "_SHIPPED", folder)
    return folder


def cartesian_weights(folder: Path, name: str) -> None:
    net = LightNet(LightArchitecture())
    what = {"name": name, "network": "light", "architecture": asdict(net.architecture)}
    tensors = {key: tensor.contiguous() for key, tensor in net.state_dict().items()}
    save(
        folder,
        tensors,
        {**MANIFEST, **what, "grid": FittingGrids(kind="cartesian", multiple=(32, 2))},
    )


def test_the_default_is_the_one_for_the_space_that_is_searched(shipped):
    cartesian_weights(shipped, "light-cartesian-2026")
    assert load_detector(space="cartesian").name == "light-cartesian-2026"
    assert load_detector().name == "light-2026"
    listed = {one.name: one.space for one in available()}
    assert listed["classical"] == "any"
    assert listed["gixi-2022"] == listed["light-2026"] == "polar"
    assert listed["light-cartesian-2026"] == "cartesian"


def test_weights_of_another_space_are_refused(shipped):
    with pytest.raises(WeightsError, match="light-2026 know polar images only"):
        load_detector("light-2026", space="cartesian")


def test_a_refusal_names_the_weights_that_fit(shipped):
    cartesian_weights(shipped, "films")
    with pytest.raises(WeightsError, match=r"to classical or films, or grid\.space to polar"):
        load_detector("light-2026", space="cartesian")
    with pytest.raises(WeightsError, match=r"to classical or light-2026, or grid\.space to cart"):
        load_detector("films")


def test_a_grid_of_a_shape_that_does_not_fit_is_refused(shipped):
    cartesian_weights(shipped, "films")
    detector = load_detector("films", space="cartesian")
    with pytest.raises(WeightsError, match=r"got a cartesian grid of \(100, 128\)"):
        detector(np.zeros((1, 100, 128), np.float32))


def test_listing_weights_does_not_load_torch():
    code = (
        "import sys; from gixi_bluesky.processing.detector.weights import available; "
        "available(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""The published weights of 2022: fetched from their PyPI archive, verified, converted.

They are GPL-3 and stay in the user's cache directory; none are part of this package.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector.networks.backbone import Architecture
from gixi_bluesky.processing.detector.weights import (
    PUBLISHED,
    FittingGrids,
    Manifest,
    Preprocessing,
    cache_directory,
    save,
)
from gixi_bluesky.processing.settings import ContrastSettings

__all__ = ["convert", "fetch"]

_REQUIREMENT = "gixi==0.0.1"
_SHA256 = "c1a202452a009c01e4c8a24da026bb92d3a0031b6cc88cd8d506181655620218"
_TIMEOUT_S = 600

# Names of the parts of the published network in this package's network.
_PARTS = {
    "backbone.backbone.": "backbone.",
    "backbone.fpn.": "pyramid.",
    "rpn_head.": "proposals.",
    "box_head.": "head.",
    "box_predictor.": "head.",
}
_CONSTANTS = ("transform_img.", "roi_align.")
# The published scaling took the extremes, which one hot or dead pixel sets; percentiles find the
# same rings on the real frame.
_PREPROCESSING = Preprocessing(contrast=ContrastSettings(), mean=0.3, std=0.3, no_data=0.0)


def fetch(name: str) -> Manifest:
    """Fetch published weights into the cache directory; returns their manifest.

    Raises WeightsError for an unknown name and when pip or the archive fails.
    """
    if name not in PUBLISHED:
        message = f"got weights {name!r}; expected one of {', '.join(PUBLISHED)}"
        raise WeightsError(message)
    with tempfile.TemporaryDirectory() as folder:
        content = _verified(_download(Path(folder)))
    for published, file in PUBLISHED.items():
        state = _state(content, f"gixi-0.0.1/saved_models/{file}.h5")
        manifest = save(cache_directory(), convert(state), _description(published, file))
        if published == name:
            wanted = manifest
    return wanted


def _download(folder: Path) -> Path:
    """Fetch the source archive by pip, which compares the hash before it opens the archive."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{_REQUIREMENT} --hash=sha256:{_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "gixi"]
    command += ["--require-hashes", "--requirement", str(requirements), "--dest", str(folder)]
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"pip could not fetch {_REQUIREMENT}: {error}; check the network and try again"
        raise WeightsError(message) from error
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode != 0 or len(archives) != 1:
        last = (done.stderr or done.stdout).strip().splitlines()[-5:]
        message = f"pip could not fetch {_REQUIREMENT}: " + " | ".join(last)
        raise WeightsError(message)
    return archives[0]


def _verified(archive: Path) -> bytes:
    content = archive.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != _SHA256:
        message = f"{archive.name} has sha256 {sha256}; expected {_SHA256}: it was not opened"
        raise WeightsError(message)
    return content


def _state(archive: bytes, member: str) -> dict[str, Tensor]:
    """Read one weights file of the archive; the suffix says HDF5, the content is torch's."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        stream = tar.extractfile(member)
        if stream is None:
            message = f"the archive of {_REQUIREMENT} holds no {member}"
            raise WeightsError(message)
        return torch.load(io.BytesIO(stream.read()), map_location="cpu", weights_only=True)


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the published network; its constants are in the manifest."""
    converted = {}
    for key, tensor in state.items():
        if key.startswith(_CONSTANTS):
            continue
        part = next((part for part in _PARTS if key.startswith(part)), None)
        if part is None:
            message = f"got a tensor named {key}; expected one of the parts {', '.join(_PARTS)}"
            raise WeightsError(message)
        converted[_PARTS[part] + key.removeprefix(part)] = tensor.contiguous()
    return converted


def _description(name: str, file: str) -> dict[str, Any]:
    return {
        "name": name,
        "network": "faster-rcnn",
        "architecture": asdict(Architecture()),
        "preprocessing": _PREPROCESSING,
        "grid": FittingGrids(),
        "licence": "GPL-3.0",
        "source": f"{file} of the PyPI source archive {_REQUIREMENT}, sha256 {_SHA256}",
        "notes": "Starostin et al., npj Comput. Mater. 8, 101 (2022); trained on 512x512 images",
    }

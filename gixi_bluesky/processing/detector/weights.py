"""Weights of the networks: a safetensors or ONNX file and a JSON manifest that says what it is.

Shipped weights lie in the package, fetched ones in the user's cache directory. Loading verifies
the sha256 of the manifest before a tensor is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import platformdirs
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.settings import ContrastSettings, Settings

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "PUBLISHED",
    "FittingGrids",
    "ListedWeights",
    "Manifest",
    "Preprocessing",
    "available",
    "cache_directory",
    "find",
    "load_arrays",
    "load_tensors",
    "read_manifest",
    "read_verified",
    "save",
    "save_content",
]

PUBLISHED = {"gixi-2022": "save_only_largest_2", "gixi-2022-segments": "segments_detector_6"}
_SUFFIXES = (".safetensors", ".onnx")
_SHIPPED = Path(__file__).resolve().parents[1] / "weights"


class Preprocessing(Settings):
    """Input of the network: contrast, then (image - mean) / std with no data as `no_data`.

    no_data: the value of pixels without data after the contrast, before the normalisation
    """

    contrast: ContrastSettings = ContrastSettings()
    mean: float = 0.0
    std: Annotated[float, Field(gt=0)] = 1.0
    no_data: float = 0.0


class FittingGrids(Settings):
    """Grids that the weights fit: their space, multiples and smallest sizes of (rows, columns).

    shape: the only one that fits, None = all of these
    """

    kind: Literal["polar", "cartesian"] = "polar"
    multiple: tuple[int, int] = (32, 4)
    smallest: tuple[int, int] = (64, 64)
    shape: tuple[int, int] | None = None

    def require_space(self, space: str, name: str) -> None:
        """Raise WeightsError for images of another space than that of the training."""
        if space != self.kind:
            fitting = [
                weights.name
                for weights in available()
                if weights.space in (space, "any") and weights.state != "not fetched"
            ]
            message = (
                f"grid.space is {space}, and the weights {name} know {self.kind} images only; set "
                f"detector.weights to {' or '.join(fitting)}, or grid.space to {self.kind}"
            )
            raise WeightsError(message)

    def require(self, shape: Sequence[int], name: str) -> None:
        """Raise WeightsError for a grid of (rows, columns) that does not fit."""
        pairs = zip(shape, self.multiple, self.smallest, strict=True)
        fits = all(n % multiple == 0 and n >= smallest for n, multiple, smallest in pairs)
        if fits and self.shape in (None, tuple(shape)):
            return
        if fits:
            message = (
                f"got a {self.kind} grid of {tuple(shape)} (rows, columns); {name} was exported "
                f"for {self.shape} only: export it again with --shape, or change grid.shape"
            )
            raise WeightsError(message)
        message = (
            f"got a {self.kind} grid of {tuple(shape)} (rows, columns); the weights {name} fit "
            f"multiples of {self.multiple} from {self.smallest} on: change grid.shape or "
            "detector.weights"
        )
        raise WeightsError(message)


class Manifest(Settings):
    """The manifest of a weights file: network, input and origin."""

    name: str
    network: str = Field(description="which network reads the weights, such as faster-rcnn")
    architecture: dict[str, Any]
    preprocessing: Preprocessing
    grid: FittingGrids
    calibration: tuple[float, float] = Field(
        (1.0, 0.0), description="slope and offset that turn a logit into that of a probability"
    )
    judge: str | None = Field(
        None,
        pattern="^[a-z0-9-]+$",
        description="which shipped judge of boxes was fitted to these weights, null = none",
    )
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    licence: str
    source: str
    notes: str = ""


@dataclass(frozen=True, slots=True)
class ListedWeights:
    """One entry of the list of weights.

    state: built in (no weights needed), shipped, fetched or not fetched
    space: of the images that they know, polar, cartesian or any
    sha256: of the safetensors file, None where there is none
    """

    name: str
    state: str
    space: str
    sha256: str | None
    licence: str
    path: Path | None = None


def cache_directory() -> Path:
    """Return the folder of fetched weights of this user."""
    return platformdirs.user_cache_path("gixi_bluesky") / "weights"


def available() -> list[ListedWeights]:
    """List every detector by name, with where its weights are."""
    found = [ListedWeights("classical", "built in", "any", None, "BSD-3-Clause")]
    for state, folder in (("shipped", _SHIPPED), ("fetched", cache_directory())):
        for path in sorted(folder.glob("*.json")):
            manifest = read_manifest(path)
            file = path.with_suffix(".safetensors")
            what = (manifest.grid.kind, manifest.sha256, manifest.licence, file)
            found.append(ListedWeights(manifest.name, state, *what))
    known = {weights.name for weights in found}
    found += [
        ListedWeights(n, "not fetched", "polar", None, "GPL-3.0")
        for n in PUBLISHED
        if n not in known
    ]
    return found


def find(name_or_path: str | Path) -> tuple[Manifest, Path]:
    """Return the manifest and the file of a name or a path.

    Raises WeightsError when there are none, saying how to get them.
    """
    name = str(name_or_path)
    for folder in (_SHIPPED, cache_directory()):
        manifest = folder / f"{name}.json"
        if Path(name).name == name and manifest.is_file():
            return read_manifest(manifest), manifest.with_suffix(".safetensors")
    if name in PUBLISHED:
        message = f"the weights {name} are not here; run `gixi-bluesky weights fetch {name}`"
        raise WeightsError(message)
    path = Path(name_or_path)
    if path.suffix not in _SUFFIXES or not path.is_file():
        names = ", ".join(weights.name for weights in available())
        files = " or ".join(_SUFFIXES)
        message = f"got weights {name!r}; expected default, large, {names} or a {files} file"
        raise WeightsError(message)
    return read_manifest(_manifest_of(path)), path


def _manifest_of(path: Path) -> Path:
    """Return where the manifest lies: an ONNX file may lie beside the tensors it was made of."""
    return path.with_suffix(".json" if path.suffix == ".safetensors" else f"{path.suffix}.json")


def read_manifest(path: Path) -> Manifest:
    """Read a manifest; raises WeightsError when it is missing or not one."""
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        message = f"cannot read the manifest {path}: {error.strerror}; it lies beside its weights"
        raise WeightsError(message) from error
    except ValidationError as error:
        message = f"{path} is no manifest of weights: {error}"
        raise WeightsError(message) from error


def load_tensors(manifest: Manifest, path: Path) -> dict[str, Tensor]:
    """Read a weights file as torch tensors; otherwise as `load_arrays`."""
    import torch  # heavy, and the list of weights does not need it

    return {name: torch.from_numpy(array) for name, array in load_arrays(manifest, path).items()}


def load_arrays(manifest: Manifest, path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a weights file after verifying its sha256.

    Raises WeightsError for a missing, changed or damaged file.
    """
    import safetensors.numpy
    from safetensors import SafetensorError

    try:
        return dict(safetensors.numpy.load(read_verified(manifest, path)))
    except SafetensorError as error:
        message = f"{path} is no safetensors file: {error}"
        raise WeightsError(message) from error


def read_verified(manifest: Manifest, path: Path) -> bytes:
    """Return what a weights file holds; raises WeightsError if it is missing or was changed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        message = f"cannot read the weights {path}: {error.strerror}"
        raise WeightsError(message) from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != manifest.sha256:
        message = (
            f"{path} has sha256 {sha256}; its manifest says {manifest.sha256}: the file is "
            "damaged or another one, delete both and fetch them again"
        )
        raise WeightsError(message)
    return content


def save(folder: Path, tensors: dict[str, Tensor], manifest: dict[str, Any]) -> Manifest:
    """Write <name>.safetensors and, once it is whole, <name>.json; returns the manifest.

    manifest: the fields of Manifest without `sha256`
    """
    import safetensors.torch  # needs torch, which is heavy

    path = folder / f"{manifest['name']}.safetensors"
    return save_content(path, safetensors.torch.save(tensors), manifest)


def save_content(path: Path, content: bytes, manifest: dict[str, Any]) -> Manifest:
    """Write a weights file and, once it is whole, its manifest; returns the manifest.

    manifest: the fields of Manifest without `sha256`
    """
    complete = Manifest.model_validate({**manifest, "sha256": hashlib.sha256(content).hexdigest()})
    path.parent.mkdir(parents=True, exist_ok=True)
    description = complete.model_dump_json(indent=2).encode()
    for target, data in ((path, content), (_manifest_of(path), description)):
        partial = target.with_name(target.name + ".part")
        partial.write_bytes(data)
        partial.replace(target)
    return complete

"""Networks that a training begins with: new ones, or those of weights that exist."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector import find_weights
from gixi_bluesky.processing.detector.networks.light import LightNet
from gixi_bluesky.processing.detector.networks.light_architecture import (
    SIZES,
    LightArchitecture,
    fitting_architecture,
)
from gixi_bluesky.processing.detector.networks.torch_pass import loaded_network
from gixi_bluesky.processing.detector.weights import Manifest, load_arrays
from gixi_bluesky.processing.geometry.grids import Space

__all__ = ["Beginning", "light_weights", "network_of", "new_network"]


@dataclass(frozen=True, slots=True)
class Beginning:
    """A network to train; origin: name and sha256 of its weights, None = random ones."""

    net: LightNet
    origin: str | None = None


def new_network(architecture: LightArchitecture = SIZES["light"]) -> Beginning:
    """Return a network with random parameters."""
    return Beginning(LightNet(architecture))


def network_of(weights: str, space: Space) -> Beginning:
    """Return the network of weights that know images of `space`.

    weights: name or path
    Raises WeightsError for weights that `light_weights` refuses or that do not fit their manifest.
    """
    manifest, arrays = light_weights(weights, space)
    net = loaded_network(fitting_architecture(manifest, arrays), arrays)
    return Beginning(net, f"{manifest.name} {manifest.sha256}")


def light_weights(weights: str, space: Space) -> tuple[Manifest, dict[str, NDArray[np.float32]]]:
    """Return the manifest and the arrays of weights that a training made, by name or path.

    Raises WeightsError for weights that are missing, of another network or of another space.
    """
    manifest, path = find_weights(weights, space)
    if manifest.network != "light" or path.suffix != ".safetensors":
        message = (
            f"got {path.name}, weights of the network {manifest.network}; expected .safetensors "
            "of a network that `gixi-bluesky train` made"
        )
        raise WeightsError(message)
    manifest.grid.require_space(space, manifest.name)
    return manifest, load_arrays(manifest, path)

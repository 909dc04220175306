"""Networks that a training begins with: new ones, or those of weights that exist."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from gixi_bluesky.errors import WeightsError
from gixi_bluesky.processing.detector import find_weights
from gixi_bluesky.processing.detector.networks.light import LightNet
from gixi_bluesky.processing.detector.networks.light_architecture import (
    LightArchitecture,
    require_shapes,
)
from gixi_bluesky.processing.detector.weights import Manifest, load_arrays
from gixi_bluesky.processing.geometry.grids import Space

__all__ = ["light_weights", "network_of", "new_network"]


def new_network() -> LightNet:
    """Return the light network with random parameters."""
    return LightNet(LightArchitecture())


def network_of(weights: str, space: Space) -> tuple[LightNet, str]:
    """Return the network of weights that know images of `space`, and their name with sha256.

    weights: name or path
    Raises WeightsError for weights that `light_weights` refuses or that do not fit their manifest.
    """
    manifest, arrays = light_weights(weights, space)
    try:
        architecture = LightArchitecture.from_json(manifest.architecture)
        require_shapes(architecture, arrays)
    except (TypeError, ValueError) as error:
        message = f"the weights {manifest.name} do not fit their manifest: {error}"
        raise WeightsError(message) from error
    net = LightNet(architecture)
    # The counters of the training's batches may be missing; nothing reads them.
    net.load_state_dict({n: torch.from_numpy(a) for n, a in arrays.items()}, strict=False)
    return net, f"{manifest.name} {manifest.sha256}"


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

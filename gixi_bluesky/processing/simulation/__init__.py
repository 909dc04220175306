"""Frames simulated in detector space: what scatters, how it is textured, what the panel records."""

from gixi_bluesky.processing.simulation.cartesian_truth import CartesianObserver
from gixi_bluesky.processing.simulation.panel import Panel, record
from gixi_bluesky.processing.simulation.render import Renderer
from gixi_bluesky.processing.simulation.scene import Component, Halo, Phase, Scene, Streak
from gixi_bluesky.processing.simulation.texture import Texture
from gixi_bluesky.processing.simulation.truth import Observer, Truth, truth

__all__ = [
    "CartesianObserver",
    "Component",
    "Halo",
    "Observer",
    "Panel",
    "Phase",
    "Renderer",
    "Scene",
    "Streak",
    "Texture",
    "Truth",
    "record",
    "truth",
]

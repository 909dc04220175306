"""Frames simulated in detector space: what scatters, how it is textured, what the panel records."""

from gixi_bluesky.processing.simulation.cartesian_truth import CartesianObserver
from gixi_bluesky.processing.simulation.films import ChangingPhase, Series, SeriesGrid
from gixi_bluesky.processing.simulation.growth import Growth
from gixi_bluesky.processing.simulation.panel import Panel, record
from gixi_bluesky.processing.simulation.random_series import random_series
from gixi_bluesky.processing.simulation.render import Renderer
from gixi_bluesky.processing.simulation.scene import Component, Halo, Phase, Rod, Scene, Streak
from gixi_bluesky.processing.simulation.texture import Texture
from gixi_bluesky.processing.simulation.truth import Observer, Truth, truth

__all__ = [
    "CartesianObserver",
    "ChangingPhase",
    "Component",
    "Growth",
    "Halo",
    "Observer",
    "Panel",
    "Phase",
    "Renderer",
    "Rod",
    "Scene",
    "Series",
    "SeriesGrid",
    "Streak",
    "Texture",
    "Truth",
    "random_series",
    "record",
    "truth",
]

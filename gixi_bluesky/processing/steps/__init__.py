"""Steps of users behind the matching: a class with a name, columns and a call."""

from gixi_bluesky.processing.steps.protocol import Step, StepColumn

__all__ = ["Step", "StepColumn"]

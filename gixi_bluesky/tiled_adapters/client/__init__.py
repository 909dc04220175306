"""Derived runs as Tiled clients see them: the run, queries over many runs, export to files."""

from gixi_bluesky.tiled_adapters.client.run import GIXIRun

__all__ = ["GIXIRun"]

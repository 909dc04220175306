"""The client side of derived runs: the run, queries over many runs, export to files."""

from gixi_bluesky.tiled_adapters.client.run import GIXIRun

__all__ = ["GIXIRun"]

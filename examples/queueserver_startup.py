"""A start-up script of the queueserver: `start-re-manager --startup-script FILE --keep-re`.

The configuration is that of the environment's GIXI_CONFIG. `gixi.status()` in the queueserver's
IPython, or `gixi_status` as a function of the HTTP server, shows the state.
"""

import os

from bluesky import RunEngine
from bluesky.plans import count  # noqa: F401 - for the queue
from ophyd.sim import det  # noqa: F401

from gixi_bluesky import load_config
from gixi_bluesky.callbacks import subscribe

RE = RunEngine()
gixi = subscribe(RE, load_config(os.environ["GIXI_CONFIG"]))


def gixi_status():
    """Return the numbers of frames, and the last error."""
    return gixi.status()

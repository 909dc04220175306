"""Plans for blueapi, analysed live: name this module in `env.sources` as `kind: planFunctions`.

blueapi makes the RunEngine itself, so each plan brings the analysis along. It is built at the first
plan that runs. The configuration is that of the environment's GIXI_CONFIG.
"""

import os
from functools import cache

import bluesky.plans as bp
import bluesky.preprocessors as bpp
from bluesky.protocols import Readable
from bluesky.utils import MsgGenerator

from gixi_bluesky import load_config
from gixi_bluesky.callbacks.analysis import Analysis

__all__ = ["count_analysed"]


@cache
def analysis() -> Analysis:
    """Return the analysis of this process."""
    return Analysis(load_config(os.environ["GIXI_CONFIG"]))


def count_analysed(detectors: list[Readable], num: int = 1) -> MsgGenerator:
    """Take images, and have them analysed while they come."""
    yield from bpp.subs_wrapper(bp.count(detectors, num), {"all": [analysis()]})

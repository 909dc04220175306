"""Subscribing the analysis to a RunEngine of this process."""

from __future__ import annotations

from typing import Any

from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.callbacks.settings import AnalysisConfig

__all__ = ["subscribe"]


def subscribe(RE: Any, config: AnalysisConfig, tiled: Any = None) -> Analysis:
    """Analyse the images of every chosen run of the RunEngine, live; return the handle.

    config: the package's Config (see `load_config`)
    tiled: a Tiled client of the catalogue where derived runs go; None = as `config.tiled` says

    The scan never waits for the analysis and never gets its errors. A wrong set-up raises here:
    no weights, a bad PONI or CIF, a Tiled server that refuses.
    """
    analysis = Analysis(config, tiled)
    # The engine must hold the handle itself: it keeps only weak references to bound methods.
    token = RE.subscribe(analysis)
    analysis.on_close(lambda: RE.unsubscribe(token))
    return analysis

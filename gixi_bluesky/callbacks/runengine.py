"""Subscribing the analysis to a RunEngine of this process."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.callbacks.settings import AnalysisConfig
from gixi_bluesky.tiled_adapters.connection import derived_catalogue
from gixi_bluesky.tiled_adapters.store.probe import probe_store

__all__ = ["subscribe"]


def subscribe(RE: Any, config: AnalysisConfig, tiled: Any = None) -> Analysis:
    """Analyse the images of every chosen run of the RunEngine, live; return the handle.

    config: the package's Config (see `load_config`)
    tiled: a Tiled client of the catalogue where derived runs go; None = as `config.tiled` says

    The scan never waits for the analysis and never gets its errors. A wrong set-up raises here:
    no weights, a bad PONI or CIF, a Tiled server that refuses, or one that does not serve the
    results directory: a small run is stored, read back and removed first, as `check` does.
    """
    _probe(config, tiled)
    analysis = Analysis(config, tiled)
    # The engine must hold the handle itself: it keeps only weak references to bound methods.
    token = RE.subscribe(analysis)
    analysis.on_close(lambda: RE.unsubscribe(token))
    return analysis


def _probe(config: AnalysisConfig, tiled: Any) -> None:
    if tiled is not None:
        probe_store(tiled, config.output, config.tiled)
    elif config.tiled.uri is not None:
        catalogue = derived_catalogue(config.tiled)
        with closing(catalogue.context):
            probe_store(catalogue, config.output, config.tiled)

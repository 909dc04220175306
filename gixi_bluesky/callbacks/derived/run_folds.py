"""All folds of a run that a configuration asks for."""

from __future__ import annotations

from gixi_bluesky.callbacks.derived.configured_folds import configured_folds
from gixi_bluesky.callbacks.derived.folds import FoldBuilder
from gixi_bluesky.callbacks.derived.prior_fold import with_temporal_prior
from gixi_bluesky.callbacks.derived.track_fold import with_tracks
from gixi_bluesky.callbacks.settings import AnalysisConfig

__all__ = ["run_folds"]


def run_folds(config: AnalysisConfig) -> FoldBuilder:
    """Return a function that builds the folds of a run, in the order in which they get a frame.

    Raises ConfigError for an unusable step.
    """
    build = configured_folds(config.steps, textures=bool(config.textures))
    if config.tracks.follow:
        build = with_tracks(build, config)
    if config.matching.temporal_prior:
        build = with_temporal_prior(build)
    return build

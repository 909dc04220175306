"""Fixtures of the tests that need Slurm."""

from __future__ import annotations

from consumer_site import site
from slurm_cluster import slurm, slurm_cluster

__all__ = ["site", "slurm", "slurm_cluster"]

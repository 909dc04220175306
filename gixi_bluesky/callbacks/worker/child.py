"""The analysis process: builds the pipeline once, then analyses frames or forks copies.

The first message is Setup. Jobs follow, or CopyRequests; a process that had a job never forks.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np

from gixi_bluesky.callbacks.worker.analysing import analyse_jobs
from gixi_bluesky.callbacks.worker.jobs import Job, Ready, Setup
from gixi_bluesky.processes.child import portable_error
from gixi_bluesky.processes.empty_folder import empty_folder
from gixi_bluesky.processes.forking import CopyRequest, can_fork, serve_copy

if TYPE_CHECKING:
    from gixi_bluesky.callbacks.worker.pixels import ImageSource

__all__ = ["serve"]

_LINES_SENT = 200


def serve(parent: Connection) -> None:
    """Build the pipeline; then analyse the parent's jobs, or fork copies that do."""
    setup: Setup = parent.recv()
    try:
        pipeline = _build(setup)
        provenance = pipeline.provenance
        gpu = provenance.device.startswith("cuda")
        ready = Ready(provenance, _phases(pipeline), forks=can_fork() and not gpu, gpu=gpu)
    except Exception as error:
        parent.send(portable_error(error, "the pipeline cannot be built"))
        return
    os.chdir(empty_folder())
    parent.send(ready)

    def analyse(connection: Connection, blocks: Sequence[int], first: Job | None = None) -> None:
        analyse_jobs(connection, pipeline, _source(setup), blocks, first)

    with contextlib.suppress(EOFError, ConnectionError):  # the parent ended
        while isinstance(message := parent.recv(), CopyRequest):
            serve_copy(parent, message, analyse)
        analyse(parent, setup.blocks, message)


def _build(setup: Setup) -> Any:
    module, _, name = setup.factory.partition(":")
    pipeline = getattr(import_module(module), name)(setup.config)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(setup.threads)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(setup.threads)
    return pipeline


def _source(setup: Setup) -> ImageSource:
    # Not at the top: the parent imports this module's neighbours, and needs no readers.
    from gixi_bluesky.callbacks.images.locations import FrameReader
    from gixi_bluesky.callbacks.worker.pixels import ImageSource

    return ImageSource(FrameReader(setup.access), setup.config.corrections)


def _phases(pipeline: Any) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "slug": structure.slug,
            "name": structure.name,
            "sha256": structure.sha256,
            "lines": _lines(structure.reflections),
        }
        for structure in getattr(pipeline, "structures", ())
    )


def _lines(reflections: Any) -> dict[str, Any]:
    """Return the strongest powder lines in order of |q|, in JSON types."""
    strongest = np.sort(np.argsort(-np.asarray(reflections.intensity))[:_LINES_SENT])
    return {
        "q": np.round(np.asarray(reflections.q)[strongest], 5).tolist(),
        "hkl": np.asarray(reflections.hkl)[strongest].tolist(),
        "intensity": np.round(np.asarray(reflections.intensity)[strongest], 5).tolist(),
    }

"""The analysis process: builds the pipeline once, reads frames and analyses them one by one.

The first message is Setup; then come Jobs until None.
"""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import replace
from importlib import import_module
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np
from structlog.contextvars import bound_contextvars

from gixi_bluesky.callbacks.worker.jobs import Analysed, Job, Outcome, Ready, Setup
from gixi_bluesky.errors import FrameError, RefusedPathError, UnavailableError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.child import portable_error
from gixi_bluesky.processes.empty_folder import empty_folder
from gixi_bluesky.processes.shared_blocks import SharedArray, mapped

if TYPE_CHECKING:
    from gixi_bluesky.callbacks.worker.pixels import ImageSource

__all__ = ["serve"]

_LINES_SENT = 200
_log = get_logger()


def serve(parent: Connection) -> None:
    """Build the pipeline and analyse the parent's jobs."""
    setup: Setup = parent.recv()
    try:
        pipeline = _build(setup)
        ready = Ready(pipeline.provenance, _phases(pipeline))
    except Exception as error:
        parent.send(portable_error(error, "the pipeline cannot be built"))
        return
    os.chdir(empty_folder())
    parent.send(ready)
    _serve(parent, setup, pipeline)


def _build(setup: Setup) -> Any:
    module, _, name = setup.factory.partition(":")
    pipeline = getattr(import_module(module), name)(setup.config)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(setup.threads)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(setup.threads)
    return pipeline


def _serve(parent: Connection, setup: Setup, pipeline: Any) -> None:
    # Not at the top: the parent imports this module's neighbours, and needs no readers.
    from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
    from gixi_bluesky.callbacks.images.locations import FrameReader
    from gixi_bluesky.callbacks.worker.pixels import ImageSource

    files = FrameReader(FileAccess.from_settings(setup.input))
    reader = ImageSource(files, setup.config.corrections)
    while True:
        try:
            job: Job | None = parent.recv()
        except (EOFError, ConnectionError):
            return
        if job is None:
            return
        try:
            with bound_contextvars(raw_uid=job.raw_uid, frame=job.frame):
                outcome = _analyse(job, pipeline, reader)
            parent.send(replace(outcome, gpu_bytes=_gpu_bytes()))
        except ConnectionError:
            return


def _analyse(job: Job, pipeline: Any, reader: ImageSource) -> Outcome:
    how: dict[str, Any] = job.conditions.given()
    try:
        if isinstance(job.image, SharedArray):
            frame, exposures = mapped(job.image), job.exposures
        else:
            frame, exposures = reader.read(job.image, job.deadline)
        if exposures > 1:
            how["exposures"] = exposures
        if job.dark is not None:
            how["dark"] = reader.dark(job.dark, job.deadline)
        result = pipeline(frame, **how)
        return Outcome("ok", result=_stored(result, keep_image=job.keep_image))
    except (UnavailableError, RefusedPathError) as error:
        return Outcome("unavailable", str(error))
    except FrameError as error:
        return Outcome("failed", str(error))
    except Exception as error:
        if "CUDA error" in str(error):
            raise  # the device is lost to this process: the next one may have it again
        _log.error("frame_failed", error=repr(error), traceback=traceback.format_exc())
        return Outcome("failed", f"{type(error).__name__}: {error}")


def _gpu_bytes() -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.memory_reserved())


def _stored(result: Any, *, keep_image: bool) -> Analysed:
    image = result.polar_image
    return Analysed(
        peaks=result.peak_table,
        matches=result.match_table,
        match_peaks=result.match_peak_table,
        q=result.q,
        phi=result.phi,
        image=np.ascontiguousarray(image, dtype=np.float32) if keep_image else None,
        incidence_angle_deg=result.incidence_angle_deg,
        total_intensity=float(np.nansum(image, dtype=np.float64)),
        seconds=dict(result.seconds),
        warnings=tuple(result.warnings),
    )


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

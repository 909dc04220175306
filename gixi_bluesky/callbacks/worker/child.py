"""The analysis process: builds the pipeline once, reads frames and analyses them one by one.

Started as `python -m gixi_bluesky.callbacks.worker.child FD`, so that scripts and notebooks
need no main guard. The first message is the import path, then Setup, then Jobs until None.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import traceback
from dataclasses import replace
from importlib import import_module
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np
from structlog.contextvars import bound_contextvars

from gixi_bluesky.callbacks.worker.jobs import Analysed, Job, Outcome, Ready, Setup, SharedImage
from gixi_bluesky.errors import FrameError, GixiError, RefusedPathError, UnavailableError
from gixi_bluesky.log import configure_logging, get_logger

if TYPE_CHECKING:
    from gixi_bluesky.callbacks.worker.pixels import ImageSource

__all__ = ["main"]

_NICENESS = 10
_LINES_TOLD = 200
_log = get_logger()


def main(arguments: list[str]) -> None:
    """Serve the parent at the other end of the socket whose descriptor is the argument."""
    # Ctrl-C pauses the scan, Slurm tells all processes of a job of its end: the parent decides.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    with Connection(int(arguments[0])) as parent:
        sys.path[:] = parent.recv()
        setup: Setup = parent.recv()
        if setup.log is not None:
            configure_logging(setup.log.level, json=setup.log.json)
        try:
            pipeline = _build(setup)
            ready = Ready(pipeline.provenance, _phases(pipeline))
        # Whatever is wrong with the set-up is the parent's to raise.
        except Exception as error:
            parent.send(_portable(error))
            return
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
                outcome = _analyse(job, setup, pipeline, reader)
            parent.send(replace(outcome, gpu_bytes=_gpu_bytes()))
        except ConnectionError:
            return


def _analyse(job: Job, setup: Setup, pipeline: Any, reader: ImageSource) -> Outcome:
    how: dict[str, Any] = job.conditions.given()
    try:
        if isinstance(job.image, SharedImage):
            frame, exposures = _shared(job.image, setup), job.exposures
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


def _shared(image: SharedImage, setup: Setup) -> np.ndarray[Any, Any]:
    dtype = np.dtype(image.dtype)
    nbytes = int(np.prod(image.shape)) * dtype.itemsize
    if not nbytes:
        return np.empty(image.shape, dtype)
    block = mmap.mmap(setup.blocks[image.block], nbytes, access=mmap.ACCESS_READ)
    return np.frombuffer(block, dtype).reshape(image.shape)


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
    strongest = np.sort(np.argsort(-np.asarray(reflections.intensity))[:_LINES_TOLD])
    return {
        "q": np.round(np.asarray(reflections.q)[strongest], 5).tolist(),
        "hkl": np.asarray(reflections.hkl)[strongest].tolist(),
        "intensity": np.round(np.asarray(reflections.intensity)[strongest], 5).tolist(),
    }


def _portable(error: Exception) -> Exception:
    """Return our own errors as they are; others may not survive the way to the parent."""
    if type(error).__module__ == GixiError.__module__:
        return type(error)(*(str(argument) for argument in error.args))
    _log.error("pipeline_not_built", traceback=traceback.format_exc())
    return GixiError(f"the pipeline cannot be built: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])

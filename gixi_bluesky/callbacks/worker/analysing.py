"""The loop of the analysis process: the next image is read while the present one is analysed."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from queue import Queue
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from structlog.contextvars import bound_contextvars

from gixi_bluesky.callbacks.worker.jobs import Analysed, Job, Outcome
from gixi_bluesky.errors import FrameError, RefusedPathError, UnavailableError
from gixi_bluesky.log import SeldomLog, get_logger
from gixi_bluesky.processes.shared_blocks import SharedArray, mapped

if TYPE_CHECKING:
    from gixi_bluesky.callbacks.worker.pixels import ImageSource
    from gixi_bluesky.processing.geometry.conditions import Conditions
    from gixi_bluesky.processing.pixels.counts import Dark
    from gixi_bluesky.processing.types import FrameResult

__all__ = ["analyse_jobs"]

_log = get_logger()
_seldom = SeldomLog()


@dataclass(frozen=True, slots=True)
class _Read:
    """A job with its pixels, the sum of `exposures`, or with the reason why there are none."""

    job: Job
    frame: NDArray[Any]
    exposures: int = 1
    dark: Dark | None = None
    problem: Outcome | None = None


class FramePipeline(Protocol):
    """An analysis of frames, such as `processing.Pipeline`."""

    def __call__(
        self,
        frame: NDArray[Any],
        *,
        dark: Dark | None,
        exposures: int,
        conditions: Conditions,
        q_image: bool,
    ) -> FrameResult: ...


def analyse_jobs(
    parent: Connection,
    pipeline: FramePipeline,
    source: ImageSource,
    blocks: Sequence[int],
    first: Job | None = None,
) -> None:
    """Answer jobs in their order until the parent closes the connection.

    blocks: descriptors of the shared memory that inline images come through
    first: a job that came already
    """
    waiting: Queue[_Read | None] = Queue(maxsize=1)

    def read_all() -> None:
        job = first
        try:
            while True:
                if job is not None:
                    waiting.put(_read(job, source, blocks))
                job = parent.recv()
        except (EOFError, ConnectionError):
            waiting.put(None)

    threading.Thread(target=read_all, name="gixi-reader", daemon=True).start()
    while (read := waiting.get()) is not None:
        with bound_contextvars(raw_uid=read.job.raw_uid, frame=read.job.frame):
            outcome = read.problem or _analyse(read, pipeline)
        try:
            parent.send(replace(outcome, gpu_bytes=_gpu_bytes()))
        except ConnectionError:
            return


def _read(job: Job, source: ImageSource, blocks: Sequence[int]) -> _Read:
    with bound_contextvars(raw_uid=job.raw_uid, frame=job.frame):
        try:
            if isinstance(job.image, SharedArray):
                frame = mapped(replace(job.image, descriptor=blocks[job.block]))
                exposures = job.exposures
            else:
                frame, exposures = source.read(job.image, job.deadline)
            dark = None if job.dark is None else source.dark(job.dark, job.deadline)
            return _Read(job, frame, exposures, dark)
        except BaseException as error:  # no error may end this thread
            return _Read(job, np.empty((0, 0)), problem=_outcome_of(error))


def _analyse(read: _Read, pipeline: FramePipeline) -> Outcome:
    try:
        result = pipeline(
            read.frame,
            dark=read.dark,
            exposures=read.exposures,
            conditions=read.job.conditions,
            q_image=read.job.keep_q_image,
        )
        return Outcome("ok", result=_stored(result, keep_image=read.job.keep_image))
    except Exception as error:
        if "CUDA error" in str(error):
            raise  # the device is lost to this process: the next one may have it again
        return _outcome_of(error)


def _outcome_of(error: BaseException) -> Outcome:
    if isinstance(error, UnavailableError | RefusedPathError):
        return Outcome("unavailable", str(error))
    if isinstance(error, FrameError):
        return Outcome("failed", str(error))
    if (similar := _seldom.due(repr(error))) is not None:
        _log.error("frame_failed", error=repr(error), similar_before=similar)
        _log.debug("frame_failed", traceback="".join(traceback.format_exception(error)))
    return Outcome("failed", f"{type(error).__name__}: {error}")


def _gpu_bytes() -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.memory_reserved())


def _stored(result: FrameResult, *, keep_image: bool) -> Analysed:
    image, on_q = result.polar_image, result.q_image
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
        textures=result.texture_table,
        cuts=result.cuts,
        step_rows=result.step_rows,
        gain=result.polar.gain,
        readout_noise=result.polar.readout_noise,
        q_axes=None if on_q is None else (on_q.q_xy, on_q.q_z),
        q_image=None if on_q is None else on_q.intensity.astype(np.float32, copy=False),
    )

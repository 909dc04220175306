"""The analysis process as its parent sees it: started, given jobs, asked for outcomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from gixi_bluesky.callbacks.images.locations import InlineImage
from gixi_bluesky.callbacks.worker.jobs import Job, Outcome, Ready, Setup
from gixi_bluesky.processes.child import ChildProcess
from gixi_bluesky.processes.limits import Limits
from gixi_bluesky.processes.shared_blocks import SharedBlock

__all__ = ["IN_FLIGHT", "PIPELINE", "AnalysisProcess"]

PIPELINE = "gixi_bluesky.processing.pipeline:Pipeline"
IN_FLIGHT = 2  # jobs handed over: one being analysed, one ready to follow

_TARGET = "gixi_bluesky.callbacks.worker.child:serve"
_START_TIMEOUT_S = 300.0


class AnalysisProcess:
    """One child process that answers jobs in the order in which they are submitted."""

    def __init__(self, config: Any, factory: str = PIPELINE) -> None:
        self._blocks = tuple(SharedBlock() for _ in range(IN_FLIGHT))
        self._setup = Setup(factory, config, config.input, config.queue.worker_threads)
        self._process = ChildProcess(
            _TARGET,
            name="analysis",
            limits=Limits(memory_gib=config.queue.worker_memory_gib),
            threads=config.queue.worker_threads,
            keep=[block.descriptor for block in self._blocks],
            folder=Path.cwd(),  # until the pipeline is built: paths of the settings start here
        )
        self._submitted = 0

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.alive

    @property
    def pid(self) -> int | None:
        """Its process id, the last one's when it is gone."""
        return self._process.pid

    def start(self) -> Ready:
        """Start it and wait until its pipeline is built.

        Raises what building the pipeline raised, ProcessEndedError when the process died of it.
        """
        self._process.start()
        try:
            answer = self._process.ask(self._setup, _START_TIMEOUT_S)
            if isinstance(answer, Exception):
                raise answer
        except BaseException:
            self.end()
            raise
        self._submitted = 0
        return cast("Ready", answer)

    def submit(self, job: Job) -> None:
        """Hand a job over; at most IN_FLIGHT may be unanswered.

        Raises ProcessEndedError, and OSError when there is no memory to share an image through.
        """
        if isinstance(job.image, InlineImage):
            # Answers come in order, so the block of two jobs ago is free.
            block = self._blocks[self._submitted % IN_FLIGHT]
            job = replace(job, image=block.share(job.image.array))
        self._process.send(job)
        self._submitted += 1

    def answer(self, timeout: float) -> Outcome | None:
        """Return the outcome of the oldest job, None after `timeout` seconds.

        Raises ProcessEndedError.
        """
        try:
            return cast("Outcome", self._process.receive(timeout))
        except TimeoutError:
            return None

    def end(self) -> None:
        """Kill the process, if it is there."""
        self._process.end()

    def close(self) -> None:
        """Kill the process and give the shared memory back."""
        self.end()
        for block in self._blocks:
            block.close()

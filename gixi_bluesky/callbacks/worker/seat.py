"""One place in the pool of analysis processes: its process, and the jobs that it has."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace

from gixi_bluesky.callbacks.images.locations import InlineImage
from gixi_bluesky.callbacks.worker.jobs import Job, Outcome
from gixi_bluesky.processes.peer import Peer
from gixi_bluesky.processes.retries import Backoff
from gixi_bluesky.processes.shared_blocks import SharedBlock

__all__ = ["Blocks", "FrameTask", "Seat"]

_LONGEST_PAUSE_S = 30.0


class Blocks:
    """Shared memory that the inline images of one process go through, used in turn."""

    def __init__(self, number: int) -> None:
        self._blocks = tuple(SharedBlock() for _ in range(number))
        self._used = 0

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Descriptors that the process inherits."""
        return tuple(block.descriptor for block in self._blocks)

    def shared(self, job: Job) -> Job:
        """Return the job with an inline image copied. Raises OSError or MemoryError."""
        if not isinstance(job.image, InlineImage):
            return job
        number = self._used % len(self._blocks)
        self._used += 1
        return replace(job, image=self._blocks[number].share(job.image.array), block=number)

    def close(self) -> None:
        """Release the memory."""
        for block in self._blocks:
            block.close()


@dataclass(slots=True, eq=False)
class FrameTask:
    """A job on its way through the pool.

    deaths: how often a process ended while it had this job
    """

    ticket: int
    job: Job
    deaths: int = 0


class Seat:
    """A process that answers jobs in order, at most `depth` at a time.

    A task that has seen a death gets the process to itself, so that a second death is its own.
    """

    def __init__(self, peer: Peer, blocks: Blocks, depth: int, *, serving: bool = False) -> None:
        self.peer = peer
        self.blocks = blocks
        self.serving = serving
        self.building_since: float | None = None
        self.sent: deque[FrameTask] = deque()
        self._depth = depth
        self._oldest_since = 0.0
        self._retry = Backoff(first_s=1.0, longest_s=_LONGEST_PAUSE_S, free=1)

    @property
    def starting(self) -> bool:
        """True if the process is running and builds its pipeline."""
        return self.building_since is not None

    @property
    def due(self) -> bool:
        """True if the process should be started now."""
        idle = not self.serving and not self.starting
        return idle and self._retry.due

    def takes(self, task: FrameTask) -> bool:
        """Return whether the task can be handed over now."""
        if not self.serving:
            return False
        if task.deaths or (self.sent and self.sent[0].deaths):
            return not self.sent
        return len(self.sent) < self._depth

    def hand_over(self, task: FrameTask, shared: Job) -> None:
        """Send a job. Raises ProcessEndedError; the task is not this seat's then."""
        self.peer.send(shared)
        if not self.sent:
            self._oldest_since = time.monotonic()
        self.sent.append(task)

    def answered(self) -> FrameTask:
        """Remove and return the task that an outcome belongs to."""
        self._oldest_since = time.monotonic()
        self._retry.succeeded()
        return self.sent.popleft()

    def late(self, timeout_s: float) -> bool:
        """Return whether the oldest job takes too long, its wait for a file apart."""
        if not self.sent:
            return False
        begin = max(self._oldest_since, self.sent[0].job.deadline)
        return time.monotonic() > begin + timeout_s

    def serve(self) -> None:
        """Record that the process takes jobs now."""
        self.serving, self.building_since = True, None
        self._oldest_since = time.monotonic()

    def ended(self) -> list[FrameTask]:
        """End the process, put off its next start after failures, and return its tasks."""
        self.peer.end()
        self.serving, self.building_since = False, None
        self._retry.failed()
        tasks = list(self.sent)
        self.sent.clear()
        return tasks

    def close(self) -> None:
        """End the process and give the shared memory back."""
        self.peer.end()
        self.blocks.close()


def gave_up(task: FrameTask, why: str) -> Outcome:
    """Return the outcome of a task that ended its process too often."""
    return Outcome("failed", f"the analysis process ended {task.deaths} times on this frame: {why}")

"""The number of analysis processes, and the set-up of each."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.settings import AnalysisConfig
from gixi_bluesky.callbacks.worker.jobs import Ready, Setup
from gixi_bluesky.callbacks.worker.seat import Blocks, Seat
from gixi_bluesky.processes.child import ChildProcess
from gixi_bluesky.processes.cores import usable_cores
from gixi_bluesky.processes.forking import ForkedCopy
from gixi_bluesky.processes.limits import Limits
from gixi_bluesky.processes.memory import usable_memory_gib

__all__ = ["Seating"]

_TARGET = "gixi_bluesky.callbacks.worker.child:serve"
_NAME = "analysis"
_DEPTH = 2  # one job is analysed while the image of the next one is read
_SHARE_OF_MEMORY = 0.8  # the rest is for the scan
_SMALLEST_GIB = 4.0  # one process with maps of a detector of 16 megapixels


class Seating:
    """Makes the seats of a pool; starts no process.

    workers: how many; None = as `queue.workers` says
    access: what may be read; None = as `input` says
    """

    def __init__(
        self,
        config: AnalysisConfig,
        factory: str,
        workers: int | None = None,
        access: FileAccess | None = None,
    ) -> None:
        self._config = config
        self._access = access or FileAccess.from_settings(config.input)
        self._factory = factory
        self._wanted: int | str = workers if workers is not None else config.queue.workers
        self._folder = Path.cwd()

    def number(self, ready: Ready) -> int:
        """Return how many processes analyse, once the first has built its pipeline."""
        # One process keeps a GPU busy.
        return 1 if ready.gpu and self._wanted == "auto" else self._number_wanted

    def building_seat(self) -> Seat:
        """Return a seat whose process builds a pipeline of its own."""
        blocks, settings = Blocks(_DEPTH), self._config.queue
        peer = ChildProcess(
            _TARGET,
            name=_NAME,
            limits=Limits(memory_gib=self._memory_gib()),
            threads=settings.worker_threads,
            keep=blocks.descriptors,
            folder=self._folder,  # until the pipeline is built: paths of settings start here
        )
        return Seat(peer, blocks, _DEPTH)

    def copy(self, original: Seat) -> Seat:
        """Return a seat whose process is a fork of one that has built its pipeline."""
        blocks = Blocks(_DEPTH)
        peer = ForkedCopy(cast("ChildProcess", original.peer), name=_NAME, keep=blocks.descriptors)
        return Seat(peer, blocks, _DEPTH)

    def setup(self, blocks: Blocks) -> Setup:
        """Return the first message to a process that builds its pipeline."""
        config = self._config
        threads = config.queue.worker_threads
        return Setup(self._factory, config, self._access, threads, blocks.descriptors)

    @property
    def _number_wanted(self) -> int:
        # The scan keeps a core for itself.
        return max(1, usable_cores() - 1) if self._wanted == "auto" else int(self._wanted)

    def _memory_gib(self) -> float | None:
        """Return the private memory that one process may have; None = no limit."""
        limit = self._config.queue.worker_memory_gib
        if limit != "auto":
            return limit
        usable = usable_memory_gib()
        if usable is None:
            return None
        return max(_SMALLEST_GIB, _SHARE_OF_MEMORY * usable / self._number_wanted)

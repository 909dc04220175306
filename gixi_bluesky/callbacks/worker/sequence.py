"""Jobs through the pool of analysis processes, with their outcomes in the order of the jobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from gixi_bluesky.callbacks.worker.jobs import Job, Outcome
from gixi_bluesky.callbacks.worker.pool import ProcessPool

__all__ = ["analyse_in_order"]

_AHEAD = 4  # outcomes that may wait for an earlier one, for each process
_WAIT_S = 1.0


def analyse_in_order(pool: ProcessPool, jobs: Iterable[Job | Outcome]) -> Iterator[Outcome]:
    """Yield the outcome of each job; an Outcome among the jobs is yielded in its turn."""
    source = iter(jobs)
    order: deque[int] = deque()
    ended: dict[int, Outcome] = {}
    known, exhausted = 0, False
    while not exhausted or order:
        while pool.room and len(order) < _AHEAD * pool.size and not exhausted:
            job = next(source, None)
            if job is None:
                exhausted = True
            elif isinstance(job, Outcome):
                known -= 1  # tickets are positive
                order.append(known)
                ended[known] = job
            else:
                order.append(pool.submit(job))
        while order and order[0] in ended:
            yield ended.pop(order.popleft())
        if order:
            ended.update(pool.finished(_WAIT_S))

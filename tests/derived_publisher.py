"""A derived run with its store, flushed by hand, and the frames that it is given."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from fake_pipeline import FakePipeline
from fakes import MemoryStore, fake_config

from gixi_bluesky.callbacks.derived.publishing import RunPublisher
from gixi_bluesky.callbacks.documents.document_types import RunStart, RunStop
from gixi_bluesky.callbacks.images.locations import InlineImage
from gixi_bluesky.callbacks.runs.raw_run import Frame, RawRun, RunClosed
from gixi_bluesky.callbacks.worker.jobs import Analysed, Outcome, Ready
from gixi_bluesky.processing.geometry.conditions import Conditions
from gixi_bluesky.processing.types import Cut

METADATA = {
    "uid": "raw",
    "time": 100.0,
    "scan_id": 5,
    "plan_name": "count",
    "sample_name": "film",
    "sample": {"id": np.int64(3), "bad": math.nan},
    "detectors": ["det"],
    "tiled_access_tags": ["team"],
}
RAW = RawRun(RunStart("raw", 100.0, 5, METADATA), "primary", "img")


N_BINS = 20
AXIS = np.linspace(0.05, 1.95, N_BINS)


def cut_of(value: float, axis: Any = AXIS) -> Cut:
    """A cut along q, its first bin not seen."""
    n = len(axis)
    intensity = np.full(n, value)
    intensity[0] = np.nan
    ones = np.ones(n)
    return Cut("film", "q", "1/angstrom", axis, intensity, ones / 2, ones.astype(int), ones)


def analysed(
    value: float, *, keep: bool = True, cuts: Any = None, q_image: bool = False
) -> Analysed:
    result = FakePipeline(fake_config(Path()))(np.full((4, 4), value), q_image=q_image)
    on_q = result.q_image
    image = result.polar_image if keep else None
    return Analysed(
        result.peak_table,
        result.match_table,
        result.match_peak_table,
        result.q,
        result.phi,
        image,
        0.5,
        float(np.nansum(result.polar_image)),
        cuts=cuts or {},
        q_axes=None if on_q is None else (on_q.q_xy, on_q.q_z),
        q_image=None if on_q is None else on_q.intensity,
    )


def frame(number: int, event_time: float = 0.0) -> Frame:
    image = InlineImage(np.zeros((1, 1)))
    now = time.monotonic()
    at = event_time or 100.0 + number
    return Frame("raw", number, number + 1, at, image, Conditions(), now, 999.0)


def closed(n: int, n_missing: int = 0) -> RunClosed:
    stop = RunStop("raw", 300.0, "success", "", {})
    return RunClosed("raw", stop, n, n_missing, tuple(range(n, n + n_missing)))


class Publisher:
    """A derived run and its store, with the flush in our hands."""

    def __init__(
        self,
        folder: Path,
        store: Any = None,
        *,
        folds: Any = (),
        clock: Any = None,
        **sections: Any,
    ) -> None:
        config = fake_config(folder, **sections)
        self.folder = folder / "results"
        self.store = store or MemoryStore()
        phases = ({"slug": "fake", "name": "Fake phase", "sha256": "", "lines": {}},)
        ready = Ready(FakePipeline(config).provenance, phases)
        output, tiled = config.output, config.tiled
        time = {} if clock is None else {"clock": clock}
        self.run = RunPublisher(RAW, ready, self.store, output, tiled, folds=folds, **time)

    def add(self, number: int, value: float = 10.0, cuts: Any = None, **options: Any) -> None:
        keep = self.run.keeps_image(frame(number))
        q_image = self.run.keeps_q_image(frame(number))
        result = analysed(value, keep=keep, cuts=cuts, q_image=q_image)
        self.run.add(frame(number, **options), Outcome("ok", result=result))

    def finish(self, clock: Any = None) -> None:
        """Step until the run is complete: its file is written in the background.

        clock: moved on between steps, if it is a manual one
        """
        deadline = time.monotonic() + 180.0
        while not self.run.complete:
            assert time.monotonic() < deadline, self.run.last_error
            self.run.step()
            if clock is not None:
                clock.advance(5.0)
            time.sleep(0.02)

    def names(self) -> list[str]:
        return [name for name, _ in self.store.documents]

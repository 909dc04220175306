"""Frames that exhaust the memory of their process, or kill it, among sound ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_pipeline import HUNGRY, KILLS
from fakes import FAKE, MemoryStore, Stores, fake_config
from raw_runs import inline_run
from soak import soak_mishaps, soak_steps
from waiting import wait_until

from gixi_bluesky.callbacks import Analysis

pytestmark = [pytest.mark.system, pytest.mark.soak, pytest.mark.timeout(0)]

FRAMES = 24


def test_frames_that_want_all_the_memory_fail_alone(tmp_path: Path) -> None:
    stores = Stores()
    queue = {"workers": 2, "worker_memory_gib": 1.0, "frame_timeout_s": 30.0}
    with Analysis(fake_config(tmp_path, queue=queue), store=stores, factory=FAKE) as analysis:
        for step, (_, chance) in enumerate(soak_steps("worker memory", soak_mishaps())):
            values = np.array([chance.choice([7, 7, 7, HUNGRY, KILLS]) for _ in range(FRAMES)])
            frames = np.ones((FRAMES, 9, 12), "<u2") * values.astype("<u2")[:, None, None]
            for name, doc in inline_run(frames):
                analysis(name, doc)
            analysis.drain(240)
            store = stores.made[step]
            assert isinstance(store, MemoryStore)
            table = store.table("frames")
            assert table["frame"].tolist() == list(range(FRAMES))
            expected = ["ok" if value == 7 else "failed" for value in values]
            assert table["status"].tolist() == expected
            # A process that ended often pauses before it starts; it needs no frame to come back.
            wait_until(lambda: analysis.status()["worker_pids"])

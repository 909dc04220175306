"""A campaign of hostile documents through a whole analysis: no thread ends, sound runs are stored.

It can be stopped and resumed: with GIXI_FUZZ_STATE=FILE it goes on with the seed it had reached,
until GIXI_FUZZ_DOCUMENTS documents were taken.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from fakes import FAKE, MemoryStore, Stores, fake_config
from hostile_runs import hostile_run
from raw_runs import feed, images, inline_run

from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.errors import StoreError

_BATCH = 2000  # documents for one analysis: runs that never stop are closed with it


class Campaign:
    """How many documents were taken, and the seed of the next run; kept in a file if given."""

    def __init__(self, state: Path | None, documents: int) -> None:
        self._state = state
        self._wanted = documents
        reported = json.loads(state.read_text()) if state is not None and state.is_file() else {}
        self.documents = int(reported.get("documents", 0))
        self.refused = int(reported.get("refused", 0))
        self._seed = int(reported.get("seed", 0))

    def batches(self) -> Iterator[list[tuple[str, Any]]]:
        """Yield documents of many runs, mixed; what was yielded before the last one is kept."""
        while self.documents < self._wanted:
            batch: list[tuple[str, Any]] = []
            while len(batch) < min(_BATCH, self._wanted - self.documents):
                runs = [iter(hostile_run(Random(self._seed + i))) for i in range(3)]
                self._seed += len(runs)
                chance = Random(self._seed)
                while runs:
                    run = chance.choice(runs)
                    try:
                        batch.append(next(run))
                    except StopIteration:
                        runs.remove(run)
            yield batch
            self.documents += len(batch)
            self._keep()

    def _keep(self) -> None:
        if self._state is not None:
            reported = {"documents": self.documents, "refused": self.refused, "seed": self._seed}
            self._state.write_text(json.dumps(reported))


def survive(folder: Path, campaign: Campaign) -> None:
    for batch in campaign.batches():
        stores = Stores()
        config = fake_config(
            folder, input={"file_timeout_s": 1e-6}, queue={"spill_directory": "spill"}
        )
        with Analysis(config, store=stores, factory=FAKE) as analysis:
            threads = {thread.name for thread in threading.enumerate() if "gixi" in thread.name}
            for name, doc in batch:
                analysis(name, doc)
            require_alive(analysis, stores)
            alive = {thread.name for thread in threading.enumerate() if "gixi" in thread.name}
            assert threads <= alive
            assert analysis.status()["documents_queued"] == 0
            campaign.refused += analysis.status()["documents_refused"]


def require_alive(analysis: Analysis, stores: Stores) -> None:
    """Feed a sound run, and see that it is stored behind all the others."""
    sound = inline_run(images(2), sample_name="sound")
    feed(analysis, sound)
    while True:
        try:
            assert analysis.drain(300)
            break
        except StoreError:  # another run was given up, which is reported once
            continue
    (stored,) = (store for store in stores.made if store.start.get("sample_name") == "sound")
    assert isinstance(stored, MemoryStore)
    np.testing.assert_allclose(sorted(stored.table("peaks")["q"]), [0.01, 0.02])
    assert stored.stop["exit_status"] == "success"


@pytest.mark.slow
def test_hostile_documents_end_no_thread(tmp_path: Path) -> None:
    survive(tmp_path, Campaign(None, 300))


def test_a_campaign_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    first = Campaign(state, 5000).batches()
    one, two = next(first), next(first)
    del first  # stopped before the second batch was done
    again = Campaign(state, 5000)
    assert again.documents == len(one)
    names = [name for name, _ in next(again.batches())]
    assert names == [name for name, _ in two]


@pytest.mark.soak
def test_very_many_hostile_documents_end_no_thread(tmp_path: Path) -> None:
    state = os.environ.get("GIXI_FUZZ_STATE")
    wanted = int(os.environ.get("GIXI_FUZZ_DOCUMENTS") or 100_000)
    campaign = Campaign(Path(state) if state else None, wanted)
    survive(tmp_path, campaign)
    assert campaign.documents >= wanted
    assert campaign.refused > 0
    print(f"{campaign.documents} documents, {campaign.refused} refused")
    if state:
        Path(state).unlink()  # the next campaign begins anew

"""Disks that fill up and freeze in mid-run: the scan goes on, and each frame is stored once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from random import Random

import numpy as np
import pytest
from failing_disk import Disk, mounted
from fakes import FAKE, fake_config
from raw_runs import Documents, inline_run
from served import Server
from soak import soak_mishaps, soak_steps

from gixi_bluesky.callbacks import Analysis
from gixi_bluesky.tiled_adapters.schema import STREAMS

pytestmark = [pytest.mark.system, pytest.mark.soak, pytest.mark.timeout(0)]

FRAMES = 24


class Site:
    """A server, a results folder on a disk of its own, and one analysis for all runs."""

    def __init__(self, server: Server, disk: Disk, analysis: Analysis) -> None:
        self.server = server
        self.disk = disk
        self.analysis = analysis
        self.catalogue = server.catalog("gixi")

    def run(self, chance: Random, fail: Callable[[], None], mend: Callable[[], None]) -> None:
        """Feed a run while the disk fails for a while, and see what is stored."""
        values = np.arange(1, FRAMES + 1, dtype="<u2")
        documents = inline_run(np.ones((FRAMES, 9, 12), "<u2") * values[:, None, None])
        first = chance.randrange(1, len(documents))
        last = chance.randrange(first, len(documents) + 4)
        longest = 0.0
        for place, (name, doc) in enumerate(documents):
            if place == first:
                fail()
            if place == last:
                mend()
            began = time.monotonic()
            self.analysis(name, doc)
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.1)
        if last >= len(documents):
            time.sleep(chance.uniform(0, 6))
            mend()
        assert longest < 0.5
        self.analysis.drain(240)
        status = self.analysis.status()
        assert set(status["threads"].values()) == {"running"}
        assert status["frames_dropped"] == status["frames_failed"] == 0
        self.require_each_once(documents)

    def require_each_once(self, documents: Documents) -> None:
        raw_uid = documents[0][1]["uid"]
        (run,) = (r for r in self.catalogue.values() if r.start["gixi"]["raw_uid"] == raw_uid)
        assert run.stop["gixi"]["n_frames"] == FRAMES
        rows = {stream: run[stream].base["internal"].read() for stream in STREAMS}
        for stream, table in rows.items():
            assert sorted(table["frame"]) == list(range(FRAMES)), stream
        reasons = rows["frames"].set_index("frame")["reason"]
        for frame in range(FRAMES):
            image = run.polar_image(frame) if not reasons[frame] else None
            assert image is None or (image == frame + 1).all(), frame
            assert image is not None or "image not stored" in reasons[frame]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("disk")
    with mounted(folder / "results") as disk:
        server = Server(folder)
        try:
            server.start()
            output = {"directory": "results", "storage_timeout_s": 2.0}
            config = fake_config(folder, output=output)
            with Analysis(config, server.catalog("gixi"), factory=FAKE) as analysis:
                yield Site(server, disk, analysis)
        finally:
            server.close()


def test_a_disk_that_fills_up_and_is_freed_costs_no_frame(site: Site) -> None:
    for _, chance in soak_steps("full disk", soak_mishaps()):
        site.run(chance, site.disk.fill, site.disk.free)


def test_a_file_system_that_freezes_and_thaws_costs_no_frame(site: Site) -> None:
    for _, chance in soak_steps("frozen disk", soak_mishaps()):
        site.run(chance, site.disk.freeze, site.disk.thaw)

"""Stand-ins for Tiled and the configuration file: stores that keep documents in memory."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pandas as pd

from gixi_bluesky.config import Config, parse_config
from gixi_bluesky.tiled_adapters.store.writer import RunState

GEOMETRY = {
    "wavelength_angstrom": 1.0,
    "distance_mm": 100.0,
    "pixel_size_mm": [0.1, 0.1],
    "beam_center_px": [0.0, 0.0],
    "incidence_angle_deg": 0.5,
}
FAKE = "fake_pipeline:FakePipeline"
GATED = "fake_pipeline:GatedPipeline"
FOLLOWED = "fake_pipeline:FollowedPipeline"
FILM = "fake_pipeline:FilmPipeline"


def fake_config(folder: Path, **sections: Any) -> Config:
    """Return a configuration that stores below `folder`; sections override single keys."""
    tree: dict[str, Any] = {
        "geometry": GEOMETRY,
        "output": {"directory": "results", "flush_s": 0.05, "live_s": 0.2},
        "input": {"file_timeout_s": 0.3},
    }
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section}
    return parse_config(tree, folder=folder)


class MemoryStore:
    """Keeps the documents of one derived run, as DerivedRunStore would store them."""

    def __init__(
        self, committed: frozenset[int] = frozenset(), thaws: threading.Event | None = None
    ) -> None:
        self.keeps_rows = True
        self.trouble = ""
        self.start: dict[str, Any] = {}
        self.documents: list[tuple[str, dict[str, Any]]] = []
        self.live: list[dict[str, Any]] = []
        self.closed = False
        self.failures: list[Exception] = []
        self._committed = committed
        self._thaws = thaws

    def open(self, start: Any) -> RunState:
        self._pause()
        self.start = dict(start)
        return RunState(self._committed, {"frames": len(self._committed)})

    def __call__(self, name: str, doc: Any) -> None:
        self._pause()
        self.documents.append((name, dict(doc)))

    def read(self, stream: str) -> pd.DataFrame:
        rows = {"frames": sorted(self._committed)}.get(stream, [])
        n = len(rows)
        table = {"frame": rows, "status": ["ok"] * n, "raw_time": [0.0] * n}
        return pd.DataFrame({**table, "q": [0.0] * n, "phase": [""] * n, "probability": [0.0] * n})

    def refresh_live(self, summary: Any) -> None:
        self.live.append(dict(summary))

    def serves(self, uid: str, finished: Any) -> bool:
        return finished is not None and uid == self.start["uid"]

    def close(self) -> None:
        self.closed = True

    def table(self, stream: str) -> pd.DataFrame:
        """Return the rows of a table as stored."""
        uids = {d["uid"] for n, d in self.documents if n == "descriptor" and d["name"] == stream}
        pages = [
            pd.DataFrame(doc["data"])
            for name, doc in self.documents
            if name == "event_page" and doc["descriptor"] in uids
        ]
        return pd.concat(pages, ignore_index=True) if pages else pd.DataFrame({"frame": []})

    @property
    def stop(self) -> dict[str, Any]:
        """The stop document."""
        return next(doc for name, doc in self.documents if name == "stop")

    def _pause(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
        if self._thaws is not None:
            assert self._thaws.wait(300), "the test has left its store frozen"


class Stores:
    """Builds the stores of all runs and remembers them in order."""

    def __init__(self, **options: Any) -> None:
        self.made: list[MemoryStore] = []
        self.options = options

    def __call__(self) -> MemoryStore:
        self.made.append(MemoryStore(**self.options))
        return self.made[-1]

    @property
    def only(self) -> MemoryStore:
        """The store of the one run there was."""
        (store,) = self.made
        return store

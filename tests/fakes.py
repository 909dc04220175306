"""Stand-ins for the slow parts: a pipeline that needs no torch, stores that keep documents."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gixi_bluesky.config import Config, parse_config
from gixi_bluesky.errors import FrameError, WeightsError
from gixi_bluesky.processing.types import FrameResult, Matches, MatchPeaks, Peaks, PolarImage
from gixi_bluesky.provenance import Provenance, result_hash
from gixi_bluesky.tiled_adapters.writer import RunState

N_PHI, N_Q = 16, 32
GEOMETRY = {
    "wavelength_angstrom": 1.0,
    "distance_mm": 100.0,
    "pixel_size_mm": [0.1, 0.1],
    "beam_center_px": [0.0, 0.0],
    "incidence_angle_deg": 0.5,
}
FAKE = "tests.fakes:FakePipeline"


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


class FakePipeline:
    """One peak a frame, whose |q| is the frame's mean over 100; phase "fake" above a mean of 50.

    A frame whose first pixel is 250 kills the process, 251 sleeps for a minute, 252 is refused,
    253 raises something unforeseen; every frame takes `GIXI_FAKE_SECONDS`.
    """

    structures: tuple[Any, ...] = ()

    def __init__(self, config: Any) -> None:
        if config.detector.weights == "missing":
            message = "got no weights; run `gixi-bluesky weights fetch`"
            raise WeightsError(message)
        self._angle = config.geometry.incidence_angle_deg
        self.provenance = Provenance(
            version="0",
            result_hash=result_hash({"grid": config.grid.model_dump(mode="json")}),
            config=config.model_dump(mode="json", by_alias=True),
            geometry=config.geometry.model_dump(mode="json", by_alias=True),
            weights_name="fake",
            weights_sha256="",
            cif_sha256={},
        )

    def __call__(self, frame: Any, incidence_angle_deg: float | None = None) -> FrameResult:
        time.sleep(float(os.environ.get("GIXI_FAKE_SECONDS", "0")))
        misbehave(int(frame.flat[0]))
        mean = float(np.mean(frame))
        peak: dict[str, Any] = {column: 0.0 for column, _ in Peaks.empty().items()}
        peak |= {"peak": 0, "kind": "ring", "fit_flags": 0, "q": mean / 100}
        phase: dict[str, Any] = {column: 0 for column, _ in Matches.empty().items()}
        phase |= {"phase": "fake", "probability": 0.9 if mean > 50 else 0.1}
        hkl = {"peak": 0, "phase": "fake", "h": 1, "k": 0, "l": 0, "dq": 0.0}
        image = np.full((N_PHI, N_Q), mean, dtype=np.float32)
        return FrameResult(
            polar=PolarImage(
                intensity=image,
                variance=image,
                pixels=image,
                q=np.linspace(0, 3, N_Q),
                phi=np.linspace(0, 90, N_PHI),
            ),
            peak_table=Peaks.from_rows([peak]),
            match_table=Matches.from_rows([phase]),
            match_peak_table=MatchPeaks.from_rows([hkl]),
            incidence_angle_deg=self._angle if incidence_angle_deg is None else incidence_angle_deg,
            seconds={"all": 0.0},
        )


def misbehave(sign: int) -> None:
    if sign == 250:
        os.kill(os.getpid(), signal.SIGKILL)
    elif sign == 251:
        time.sleep(60)
    elif sign == 252:
        message = "this frame is refused"
        raise FrameError(message)
    elif sign == 253:
        message = "nobody foresaw this"
        raise LookupError(message)


class MemoryStore:
    """Keeps the documents of one derived run, as DerivedRunStore would store them."""

    def __init__(self, committed: frozenset[int] = frozenset(), delay: float = 0.0) -> None:
        self.start: dict[str, Any] = {}
        self.documents: list[tuple[str, dict[str, Any]]] = []
        self.live: list[dict[str, Any]] = []
        self.closed = False
        self.failures: list[Exception] = []
        self._committed = committed
        self._delay = delay

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
        time.sleep(self._delay)


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

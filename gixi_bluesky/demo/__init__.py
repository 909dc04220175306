"""The demo: a crystallising film on a simulated beamline, analysed live and read from Tiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["run_demo", "run_live_demo"]


def run_demo(out: Path, frames: int = 60) -> dict[str, Any]:
    """Play the demo into the folder `out` and return what its summary.json holds.

    `out` gets overview.png (rewritten every few seconds), summary.json, config.yaml, the raw
    frames, the results and the server's state. Raises GixiError for a set-up that cannot work.
    """
    # Tiled, the RunEngine and OpenCV are heavy; `gixi-bluesky demo --help` needs none of them.
    from gixi_bluesky.demo.experiment import play

    return play(Path(out), frames)


def run_live_demo(out: Path, frames: int, announce: Callable[[Any], None]) -> None:
    """Play the demo again and again into the folder `out`, a film at a time, until Ctrl-C.

    announce: called once with the server, when its live view can be opened
    """
    from gixi_bluesky.demo.experiment import play_on

    play_on(Path(out), frames, announce)

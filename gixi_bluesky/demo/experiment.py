"""The experiment of the demo: server, RunEngine, simulated beamline, analysis and findings."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bluesky import RunEngine
from bluesky.callbacks.buffer import BufferingWrapper
from bluesky.plans import count
from bluesky_tiled_plugins import TiledWriter
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gixi_bluesky.callbacks import subscribe
from gixi_bluesky.config import Config, parse_config
from gixi_bluesky.demo.beamline import Exposure, SimulatedDetector
from gixi_bluesky.demo.crystallisation import Crystallisation
from gixi_bluesky.demo.monitor import Monitor
from gixi_bluesky.demo.report import ask, show
from gixi_bluesky.processing.geometry.calibration import orient
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.settings import GeometrySettings
from gixi_bluesky.processing.simulation import Panel, Renderer, record
from gixi_bluesky.processing.structures.cif_files import (
    read_structure,
    read_structures,
    shipped_cifs,
)
from gixi_bluesky.tiled_adapters.server.embedded import EmbeddedServer, embedded_server
from gixi_bluesky.web import LiveView

__all__ = ["demo_config", "play", "play_on", "simulated_exposures"]

SHAPE = (1043, 981)
INCIDENCE_ANGLE_DEG = 0.3
CRYSTALLISES = "MAPbBr3"

_DRAIN_S = 900.0
_RAW_ROWS = 4  # events that the raw catalogue takes at once
_PANEL = Panel(
    modules=(195, 487), gap=(17, 7), beam_stop=(40.0, 150.0, 20.0), dead=1e-4, hot=5e-6, seed=3
)


def play(out: Path, frames: int) -> dict[str, Any]:
    """Measure, analyse and report into the folder `out`; see `run_demo`."""
    with _laboratory(out) as (server, config, console):
        return _film(server, config, out.absolute(), frames, console)


def play_on(out: Path, frames: int, announce: Callable[[EmbeddedServer], None]) -> None:
    """Measure one film after the other until Ctrl-C; see `run_live_demo`."""
    with _laboratory(out) as (server, config, console):
        announce(server)
        with contextlib.suppress(KeyboardInterrupt):
            for film in itertools.count(1):
                _film(server, config, out.absolute(), frames, console, film)


@contextlib.contextmanager
def _laboratory(out: Path) -> Iterator[tuple[EmbeddedServer, Config, Console]]:
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    config = demo_config(out)
    with embedded_server(out, around=LiveView) as server:
        yield server, config, Console(stderr=True)


def _film(
    server: EmbeddedServer, config: Config, out: Path, frames: int, console: Console, film: int = 1
) -> dict[str, Any]:
    """Measure, analyse and report one film; return what its summary.json holds."""
    raw_uid, seconds = _measure(server, config, out, frames, console, film)
    names = {
        structure.slug: structure.name
        for structure in read_structures(config.matching.cif, config.grid.q_max_inv_angstrom)
    }
    findings = ask(server.client(), config.tiled.raw, config.tiled.derived, raw_uid, names)
    show(console, findings, seconds)
    summary = findings.summary(seconds)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def demo_config(out: Path) -> Config:
    """Return the configuration of the demo; `out` gets it as config.yaml, and the mask with it."""
    packaged = resources.files("gixi_bluesky.demo") / "demo.yaml"
    tree = yaml.safe_load(packaged.read_text(encoding="utf-8"))
    tree["matching"] = {"cif": [str(path) for path in shipped_cifs().values()]}
    tree["output"] = {"directory": "results"}
    tree["geometry"]["mask"] = "mask.npy"
    (out / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    config = parse_config(tree, folder=out, source="the demo's configuration")
    # Masks hold for the array as it is read; a flip is its own inverse.
    np.save(out / "mask.npy", orient(_PANEL.mask(SHAPE), config.geometry))
    return config


def simulated_exposures(
    settings: GeometrySettings, film: Crystallisation, seed: int = 0
) -> Exposure:
    """Return what the detector sees at a time in simulated seconds: (rows, columns) int32."""
    geometry = Geometry.from_settings(settings, SHAPE).with_incidence(INCIDENCE_ANGLE_DEG)
    renderer = Renderer(geometry, SHAPE)
    rng = np.random.default_rng(seed)

    def expose(time_s: float) -> NDArray[np.int32]:
        frame = record(renderer.expected(film.scene(time_s)), _PANEL, rng)
        # Files hold the array as the detector reads it out.
        return np.ascontiguousarray(orient(frame, settings), dtype=np.int32)

    return expose


def _measure(
    server: EmbeddedServer, config: Config, out: Path, frames: int, console: Console, number: int
) -> tuple[str, float]:
    """Measure and analyse a film; return the raw run's uid and the seconds both took.

    number: of the film, from 1; each has its own noise
    """
    client = server.client()
    film = Crystallisation(
        read_structure(shipped_cifs()[CRYSTALLISES], config.grid.q_max_inv_angstrom)
    )
    detector = SimulatedDetector(
        name="giwaxs",
        expose=simulated_exposures(config.geometry, film, seed=number - 1),
        shape=SHAPE,
        directory=out / "raw",
        period_s=film.duration_s / frames,
    )
    detector.incidence_angle.put(INCIDENCE_ANGLE_DEG)
    engine = RunEngine({"scan_id": number - 1}, context_managers=[])  # Ctrl-C ends the demo
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*bars, TimeElapsedColumn(), console=console) as progress,
        _raw_writer(client[config.tiled.raw]) as writer,
        Monitor(
            server.client,
            config.tiled.raw,
            config.tiled.derived,
            out / "overview.png",
            progress,
            frames,
        ) as monitor,
    ):
        engine.subscribe(writer)
        engine.subscribe(monitor)
        analysis = subscribe(engine, config, tiled=client[config.tiled.derived])
        began = time.monotonic()
        try:
            (raw_uid,) = engine(
                count([detector], num=frames),
                purpose="demo",
                sample_name=f"{CRYSTALLISES} from solution{_numbered(number)}",
            )
            analysis.drain(_DRAIN_S)
        except KeyboardInterrupt:
            if not engine.state.is_idle:
                engine.abort("stopped by Ctrl-C")
            raise
        finally:
            seconds = time.monotonic() - began
            analysis.close()
    return raw_uid, seconds


def _numbered(film: int) -> str:
    return f", film {film}" if film > 1 else ""


@contextlib.contextmanager
def _raw_writer(catalogue: Any) -> Iterator[BufferingWrapper]:
    """Yield a callback that stores the raw documents from a thread of its own."""
    writer = BufferingWrapper(TiledWriter(catalogue, batch_size=_RAW_ROWS))
    try:
        yield writer
    finally:
        writer.shutdown()

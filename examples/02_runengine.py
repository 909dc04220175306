"""Analyse a scan while it runs: python 02_runengine.py [FOLDER].

A simulated detector replaces the beamline's; everything else is as at a beamline.
"""

import sys
from pathlib import Path

from bluesky import RunEngine
from bluesky.plans import count

from gixi_bluesky.callbacks import subscribe
from gixi_bluesky.demo.beamline import SimulatedDetector
from gixi_bluesky.demo.crystallisation import Crystallisation
from gixi_bluesky.demo.experiment import SHAPE, demo_config, simulated_exposures
from gixi_bluesky.processing.structures import read_structure, shipped_cifs
from gixi_bluesky.tiled_adapters.server import embedded_server


def main(folder: str = "example-results") -> None:
    out = Path(folder).absolute()
    out.mkdir(parents=True, exist_ok=True)
    config = demo_config(out)
    film = Crystallisation(read_structure(shipped_cifs()["MAPbBr3"], q_max=3.6))
    detector = SimulatedDetector(
        name="giwaxs",
        expose=simulated_exposures(config.geometry, film),
        shape=SHAPE,
        directory=out / "raw",
        period_s=30.0,
    )
    detector.incidence_angle.put(0.3)

    RE = RunEngine()
    with embedded_server(out) as server:
        derived = server.catalog("gixi")
        with subscribe(RE, config, tiled=derived) as analysis:
            RE(count([detector], num=4), purpose="demo", sample_name="MAPbBr3")
            analysis.drain(timeout=300)
            print(analysis.status())
        run = derived.values().last()
        print(run)
        print(run.frames()[["frame", "status", "n_peaks", "best_phase", "best_probability"]])


if __name__ == "__main__":
    main(*sys.argv[1:])

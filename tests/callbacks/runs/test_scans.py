"""Scans of angle, energy and detector arm through ophyd devices: each frame has its own values."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.plans import list_scan
from fakes import Stores
from ophyd.sim import SynAxis, SynSignal

from gixi_bluesky.callbacks.analysis import Analysis
from gixi_bluesky.config import parse_config
from gixi_bluesky.processing.geometry.instrument import Geometry

pytestmark = pytest.mark.slow  # starts processes or networks in most tests

SHAPE = (400, 500)
GEOMETRY = {
    "distance_mm": 200.0,
    "pixel_size_mm": [0.4, 0.4],
    "beam_center_px": [20.0, 200.0],
    "incidence_angle_deg": {"from": "th", "unit": "mrad"},
    "energy_kev": {"from": "mono", "unit": "eV"},
}
RINGS = (1.3, 2.1)
SPOT = (0.9, 1.4)  # q_xy, q_z; its |q| lies on no ring


def frame_at(
    incidence_mrad: float, energy_ev: float, rng: np.random.Generator, arm: tuple[float, ...] = ()
) -> np.ndarray:
    """Counts of two powder rings and a spot that is fixed to the film; arm in rad."""
    geometry = Geometry(
        12398.419843320026 / energy_ev,
        0.2,
        (4e-4, 4e-4),
        (20.5 * 4e-4, 200.5 * 4e-4),
        incidence_angle_rad=incidence_mrad * 1e-3,
    )
    if arm:
        geometry = geometry.with_arm(*arm)
    q_xy, q_z = geometry.q_at(*np.indices(SHAPE).astype(float))
    q = np.hypot(q_xy, q_z)
    expected = 10 + sum(300 * np.exp(-0.5 * ((q - ring) / 0.015) ** 2) for ring in RINGS)
    distance = np.hypot(np.abs(q_xy) - SPOT[0], q_z - SPOT[1])
    expected = expected + 2000 * np.exp(-0.5 * (distance / 0.02) ** 2)
    return rng.poisson(np.where(q_z > geometry.horizon_q_z, expected, 0)).astype(np.uint16)


def test_every_frame_of_a_scan_has_its_q(engine: RunEngine, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    th, mono = SynAxis(name="th"), SynAxis(name="mono", value=12400.0)
    detector = SynSignal(
        lambda: frame_at(th.position, mono.position, rng), name="img", labels={"detectors"}
    )
    config = parse_config(
        {
            "geometry": GEOMETRY,
            "grid": {"q_max_inv_angstrom": 2.5, "shape": [256, 512]},
            "detector": {"weights": "classical"},
            "output": {"directory": "results", "flush_s": 0.05},
        },
        folder=tmp_path,
    )
    stores = Stores()
    angles = [2.0, 5.0, 20.0, 60.0, 2.0]
    energies = [12400.0, 12400.0, 12400.0, 11500.0, 13000.0]
    with Analysis(config, store=stores) as analysis:
        engine.subscribe(analysis)
        engine(list_scan([detector], th, angles, mono, energies))
        assert analysis.drain(120)
    frames = stores.only.table("frames").sort_values("frame")
    assert frames["status"].tolist() == ["ok"] * 5
    np.testing.assert_allclose(frames["incidence_angle_deg"], np.degrees(angles) * 1e-3)
    peaks = stores.only.table("peaks")
    for number in range(5):
        here = peaks[peaks["frame"] == number]
        for ring in RINGS:
            assert np.min(np.abs(here["q"] / ring - 1)) < 1e-3, (number, ring)
        # The spot stays where it is in the film's frame, though it moves on the detector.
        nearest = np.hypot(here["q_xy"] - SPOT[0], here["q_z"] - SPOT[1]).idxmin()
        assert here.loc[nearest, "q"] == pytest.approx(np.hypot(*SPOT), rel=1e-3)
        phi = np.degrees(np.arctan2(SPOT[1], SPOT[0]))
        assert here.loc[nearest, "phi"] == pytest.approx(phi, abs=0.2), number


def test_a_detector_on_a_moving_arm_sees_the_same_rings(engine: RunEngine, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    tth, delta = SynAxis(name="tth"), SynAxis(name="delta")
    detector = SynSignal(
        lambda: frame_at(
            3.0, 12400.0, rng, (-math.radians(tth.position), math.radians(delta.position))
        ),
        name="img",
        labels={"detectors"},
    )
    arm = {
        "incidence_angle_deg": math.degrees(3e-3),
        "energy_kev": 12.4,
        "arm_in_plane_deg": {"from": "tth", "scale": -1},  # this one counts the other way
        "arm_out_of_plane_deg": {"from": "delta"},
    }
    config = parse_config(
        {
            "geometry": GEOMETRY | arm,
            "grid": {"q_max_inv_angstrom": 2.5, "shape": [256, 512]},
            "detector": {"weights": "classical"},
            "output": {"directory": "results", "flush_s": 0.05},
        },
        folder=tmp_path,
    )
    stores = Stores()
    arms = [(0.0, 0.0), (5.0, 0.0), (5.0, 2.0), (-5.0, 8.0), (0.0, 0.0)]
    with Analysis(config, store=stores) as analysis:
        engine.subscribe(analysis)
        engine(list_scan([detector], tth, [t for t, _ in arms], delta, [d for _, d in arms]))
        assert analysis.drain(120)
        status = analysis.status()
    assert status["maps_built"] == 4
    assert status["maps_seconds"] > 0
    peaks = stores.only.table("peaks")
    for number in range(len(arms)):
        here = peaks[peaks["frame"] == number]
        for ring in RINGS:
            assert np.min(np.abs(here["q"] / ring - 1)) < 1e-3, (number, ring)

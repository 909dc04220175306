"""Devices as beamlines have them, in a real RunEngine: area detectors of ophyd, ophyd-async."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import h5py
import numpy as np
import pytest
import tifffile
from bluesky import RunEngine
from bluesky.plans import count, list_scan
from event_model import compose_resource
from fakes import FAKE, MemoryStore, Stores, fake_config
from ophyd import Device, Staged
from ophyd.sim import SynAxis
from ophyd.status import Status
from ophyd_async.core import StaticPathProvider, TriggerInfo, UUIDFilenameProvider, init_devices
from ophyd_async.sim import SimBlobDetector, SimMotor

from gixi_bluesky.callbacks.analysis import Analysis

SHAPE = (16, 20)


@pytest.fixture
def engine() -> Iterator[RunEngine]:
    loop = asyncio.new_event_loop()
    engine = RunEngine({}, loop=loop, context_managers=[])
    yield engine
    loop.call_soon_threadsafe(loop.stop)
    deadline = time.monotonic() + 5
    while loop.is_running() and time.monotonic() < deadline:
        time.sleep(0.01)
    loop.close()


@pytest.fixture
def stores() -> Stores:
    return Stores()


@pytest.fixture
def analysis(tmp_path: Path, engine: RunEngine, stores: Stores) -> Iterator[Analysis]:
    config = fake_config(
        tmp_path,
        geometry={"incidence_angle_deg": {"from": "th"}},
        input={"file_timeout_s": 5.0},
    )
    with Analysis(config, store=stores, factory=FAKE) as analysis:
        engine.subscribe(analysis)
        yield analysis


def means(store: MemoryStore) -> np.ndarray:
    """The mean counts of each frame, as the fake pipeline tells them."""
    frames = store.table("frames").sort_values("frame")
    assert frames["status"].tolist() == ["ok"] * len(frames)
    return 100 * store.table("peaks").sort_values("frame")["q"].to_numpy()


class AreaDetector(Device):
    """Writes files and asset documents as ophyd's area detector plugins do.

    n: images a point; every image is full of its number, from 1 on
    """

    def __init__(self, folder: Path, spec: str, n: int, name: str = "det") -> None:
        super().__init__(name=name)
        self._folder, self._spec, self._n = folder, spec, n
        self._assets: deque[tuple[str, Any]] = deque()
        self._point = -1
        self._compose: Any = None
        self._datum_id = ""

    def stage(self) -> list[object]:
        kwargs: dict[str, Any] = {"frame_per_point": self._n}
        if self._spec == "AD_TIFF":
            kwargs |= {"template": "%s%s_%6.6d.tiff", "filename": "shot"}
        path = "shots.h5" if self._spec.startswith("AD_HDF5") else ""
        bundle = compose_resource(
            spec=self._spec, root=str(self._folder), resource_path=path, resource_kwargs=kwargs
        )
        resource = dict(bundle.resource_doc)
        resource.pop("run_start", None)
        self._compose, self._point = bundle.compose_datum, -1
        self._assets.append(("resource", resource))
        return super().stage()

    def trigger(self) -> Status:
        self._point += 1
        numbers = self._point * self._n + np.arange(self._n)
        frames = np.ones((self._n, *SHAPE), np.uint16) * (numbers + 1)[:, None, None]
        frames = frames.astype(np.uint16)
        if self._spec == "AD_TIFF":
            for number, frame in zip(numbers, frames, strict=True):
                tifffile.imwrite(self._folder / f"shot_{number:06d}.tiff", frame)
        else:
            with h5py.File(self._folder / "shots.h5", "a") as file:
                if "/entry/data/data" not in file:
                    file.create_dataset(
                        "/entry/data/data", (0, *SHAPE), "<u2", maxshape=(None, *SHAPE)
                    )
                data = file["/entry/data/data"]
                data.resize(len(data) + self._n, axis=0)
                data[-self._n :] = frames
        datum = self._compose(datum_kwargs={"point_number": self._point})
        self._datum_id = datum["datum_id"]
        self._assets.append(("datum", dict(datum)))
        status = Status()
        status.set_finished()
        return status

    def describe(self) -> dict[str, Any]:
        return {
            "det_image": {
                "source": "PV:det",
                "dtype": "array",
                "shape": [self._n, *SHAPE],
                "external": "FILESTORE:",
            }
        }

    def read(self) -> dict[str, Any]:
        return {"det_image": {"value": self._datum_id, "timestamp": time.time()}}

    def collect_asset_docs(self) -> Iterator[tuple[str, Any]]:
        while self._assets:
            yield self._assets.popleft()


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("spec", ["AD_HDF5", "AD_HDF5_SWMR", "AD_TIFF"])
def test_area_detectors_of_ophyd(
    engine: RunEngine, analysis: Analysis, stores: Stores, tmp_path: Path, spec: str, n: int
) -> None:
    th = SynAxis(name="th")
    detector = AreaDetector(tmp_path, spec, n)
    engine(list_scan([detector], th, [0.1, 0.2, 0.3]))
    assert detector._staged == Staged.no
    assert analysis.drain(30)
    np.testing.assert_allclose(means(stores.only), np.arange(1, 3 * n + 1))
    angles = stores.only.table("frames").sort_values("frame")["incidence_angle_deg"]
    np.testing.assert_allclose(angles, np.repeat([0.1, 0.2, 0.3], n))


def blobs(folder: Path) -> tuple[SimBlobDetector, SimMotor]:
    with init_devices():
        detector = SimBlobDetector(StaticPathProvider(UUIDFilenameProvider(), folder), name="det")
        motor = SimMotor(instant=True, name="th")
    return detector, motor


def written(folder: Path) -> np.ndarray:
    """Mean counts of the images that the detector wrote."""
    (path,) = folder.glob("*.h5")
    with h5py.File(path, "r") as file:
        return file["/entry/data/data"][...].mean(axis=(1, 2))


def test_a_step_scan_of_ophyd_async(
    engine: RunEngine, analysis: Analysis, stores: Stores, tmp_path: Path
) -> None:
    detector, motor = blobs(tmp_path)
    engine(list_scan([detector], motor, [0.1, 0.25, 0.4]))
    assert analysis.drain(30)
    np.testing.assert_allclose(means(stores.only), written(tmp_path), rtol=1e-6)
    angles = stores.only.table("frames").sort_values("frame")["incidence_angle_deg"]
    np.testing.assert_allclose(angles, [0.1, 0.25, 0.4])


def test_a_fly_scan_of_ophyd_async_with_several_images_an_event(
    engine: RunEngine, analysis: Analysis, stores: Stores, tmp_path: Path
) -> None:
    detector, _ = blobs(tmp_path)

    @bpp.run_decorator(md={"plan_name": "fly", "th": 0.2})
    def fly() -> Any:
        yield from bps.stage(detector)
        info = TriggerInfo(number_of_events=3, collections_per_event=2)
        yield from bps.prepare(detector, info, wait=True)
        yield from bps.declare_stream(detector, name="primary", collect=True)
        yield from bps.kickoff(detector, wait=True)
        yield from bps.collect_while_completing(
            [detector], [detector], flush_period=0.1, stream_name="primary"
        )
        yield from bps.unstage(detector)

    engine(fly())
    assert analysis.drain(30)
    frames = stores.only.table("frames").sort_values("frame")
    assert frames["raw_seq_num"].tolist() == [1, 1, 2, 2, 3, 3]
    assert set(frames["incidence_angle_deg"]) == {0.2}
    np.testing.assert_allclose(means(stores.only), written(tmp_path), rtol=1e-6)


def test_several_detectors_and_streams_in_nested_runs(
    engine: RunEngine, analysis: Analysis, stores: Stores, tmp_path: Path
) -> None:
    """A run inside another; each has its frames, point detectors and a baseline beside."""
    th, other = SynAxis(name="th"), SynAxis(name="other")
    outer = AreaDetector(tmp_path, "AD_TIFF", 1)
    (tmp_path / "inner").mkdir()
    inner = AreaDetector(tmp_path / "inner", "AD_HDF5", 2)

    @bpp.set_run_key_decorator("inner")
    @bpp.run_decorator(md={"plan_name": "inner"})
    def inside() -> Any:
        yield from bps.stage(inner)
        yield from bps.trigger_and_read([inner, th])
        yield from bps.unstage(inner)

    @bpp.set_run_key_decorator("outer")
    @bpp.baseline_decorator([other])
    @bpp.run_decorator(md={"plan_name": "outer"})
    def around() -> Any:
        yield from bps.stage(outer)
        for _ in range(2):
            yield from bps.trigger_and_read([outer, th, other])
            yield from inside()
        yield from bps.unstage(outer)

    engine(around())
    assert analysis.drain(30)
    found = {}
    for store in stores.made:
        found.setdefault(store.start["plan_name"], []).append(means(store).tolist())
    assert found["outer"] == [[1.0, 2.0]]
    assert [len(one) for one in found["inner"]] == [2, 2]


def test_a_count_without_the_angle_gives_rows_that_say_so(
    engine: RunEngine, analysis: Analysis, stores: Stores, tmp_path: Path
) -> None:
    engine(count([AreaDetector(tmp_path, "AD_TIFF", 1)], num=2))
    assert analysis.drain(30)
    frames = stores.only.table("frames")
    assert frames["status"].tolist() == ["failed"] * 2
    assert "the incidence angle 'th' is not in the event" in frames["reason"][0]

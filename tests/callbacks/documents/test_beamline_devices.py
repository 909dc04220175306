"""Devices as beamlines have them, in a real RunEngine: area detectors of ophyd, ophyd-async."""

from __future__ import annotations

from collections import Counter
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
from fakes import FAKE, MemoryStore, Stores, fake_config
from ophyd import Component
from ophyd.areadetector import CamBase, DetectorBase, SingleTrigger
from ophyd.areadetector.filestore_mixins import (
    FileStoreHDF5IterativeWrite,
    FileStoreHDF5SingleIterativeWrite,
    FileStoreTIFFIterativeWrite,
)
from ophyd.areadetector.plugins import HDF5Plugin, TIFFPlugin
from ophyd.sim import SynAxis, make_fake_device
from ophyd_async.core import StaticPathProvider, TriggerInfo, UUIDFilenameProvider, init_devices
from ophyd_async.sim import SimBlobDetector, SimMotor

from gixi_bluesky.callbacks.analysis import Analysis

SHAPE = (16, 20)
DATASET = "/entry/data/data"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Analysis, list[Stores]]]:
    """One analysis for all tests, and where its stores come from."""
    config = fake_config(
        tmp_path_factory.mktemp("running"),
        geometry={"incidence_angle_deg": {"from": "th"}},
        input={"file_timeout_s": 5.0},
    )
    stores = [Stores()]
    with Analysis(config, store=lambda: stores[-1](), factory=FAKE) as analysis:
        yield analysis, stores


@pytest.fixture
def stores(running: tuple[Analysis, list[Stores]]) -> Stores:
    running[1].append(Stores())
    return running[1][-1]


@pytest.fixture
def analysis(running: tuple[Analysis, list[Stores]], engine: RunEngine) -> Analysis:
    engine.subscribe(running[0])
    return running[0]


def means(store: MemoryStore) -> np.ndarray:
    """The mean counts of each frame, as the fake pipeline reports them."""
    frames = store.table("frames").sort_values("frame")
    assert frames["status"].tolist() == ["ok"] * len(frames)
    return 100 * store.table("peaks").sort_values("frame")["q"].to_numpy()


PLUGINS = {
    "AD_HDF5": (HDF5Plugin, FileStoreHDF5IterativeWrite, "NDFileHDF5"),
    "AD_HDF5_SINGLE": (HDF5Plugin, FileStoreHDF5SingleIterativeWrite, "NDFileHDF5"),
    "AD_TIFF": (TIFFPlugin, FileStoreTIFFIterativeWrite, "NDFileTIFF"),
}


def area_detector(folder: Path, spec: str, n: int) -> Any:
    """An area detector of ophyd with a file plugin, its process variables in this process.

    It writes `n` images a point, each full of its number from 1 on, as the IOC would.
    """
    plugin, store, kind = PLUGINS[spec]

    class File(plugin, store):  # type: ignore[misc, valid-type]
        def get_frames_per_point(self) -> int:
            return int(self.parent.cam.num_images.get())

    class Detector(SingleTrigger, DetectorBase):
        cam = Component(CamBase, "cam1:")
        file = Component(File, "F1:", write_path_template=f"{folder}/%Y/", root=str(folder))

        def trigger(self) -> Any:
            status = super().trigger()
            self.cam.acquire.sim_put(0)  # the images are there
            return status

    detector = make_fake_device(Detector)("X:", name="det")
    cam, file = detector.cam, detector.file
    for part in (cam, file):
        for name, size in zip(part.array_size.component_names, (0, *SHAPE), strict=True):
            getattr(part.array_size, name).sim_put(size)
    reported = {
        cam.num_images: n,
        cam.data_type: "UInt16",
        cam.port_name: "CAM",
        file.port_name: "F1",
        file.nd_array_port: "CAM",
        file.file_path_exists: 1,
        file.plugin_type: kind,
        file.num_captured: 0,
    }
    for signal, value in reported.items():
        signal.sim_put(value)
    cam.stage_sigs, detector.stage_sigs = {}, {cam.acquire: 0}
    file.stage_sigs["enable"] = "1"
    detector.read_attrs, file.read_attrs = ["file"], []
    written: Counter[str] = Counter()

    def acquire(value: int, **_: Any) -> None:
        cam.acquire.sim_put(value)
        if value:
            name = file.file_name.get()
            numbers = written[name] + np.arange(n)
            write_images(file, spec, numbers)
            written[name] += n

    cam.acquire.put = acquire
    return detector


def write_images(file: Any, spec: str, numbers: np.ndarray) -> None:
    Path(file._fp).mkdir(parents=True, exist_ok=True)
    if spec == "AD_HDF5":
        with h5py.File(file._fn, "a") as stored:
            data = stored.require_dataset(
                DATASET, (numbers[0], *SHAPE), "<u2", maxshape=(None, *SHAPE)
            )
            data.resize(int(numbers[-1]) + 1, axis=0)
            data[numbers[0] :] = (numbers + 1)[:, None, None]
        return
    for number in numbers:
        path = file.file_template.get() % (file._fp, file.file_name.get(), number)
        image = np.full(SHAPE, number + 1, np.uint16)
        if spec == "AD_TIFF":
            tifffile.imwrite(path, image)
        else:
            with h5py.File(path, "w") as stored:
                stored[DATASET] = image[None]


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("spec", PLUGINS)
def test_area_detectors_of_ophyd(
    engine: RunEngine, analysis: Analysis, stores: Stores, tmp_path: Path, spec: str, n: int
) -> None:
    th = SynAxis(name="th")
    engine(list_scan([area_detector(tmp_path, spec, n)], th, [0.1, 0.2, 0.3]))
    assert analysis.drain(120)
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
    assert analysis.drain(120)
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
    assert analysis.drain(120)
    frames = stores.only.table("frames").sort_values("frame")
    assert frames["raw_seq_num"].tolist() == [1, 1, 2, 2, 3, 3]
    assert set(frames["incidence_angle_deg"]) == {0.2}
    np.testing.assert_allclose(means(stores.only), written(tmp_path), rtol=1e-6)


def test_several_detectors_and_streams_in_nested_runs(
    engine: RunEngine, analysis: Analysis, stores: Stores, tmp_path: Path
) -> None:
    """A run inside another; each has its frames, point detectors and a baseline beside."""
    th, other = SynAxis(name="th"), SynAxis(name="other")
    outer = area_detector(tmp_path, "AD_TIFF", 1)
    (tmp_path / "inner").mkdir()
    inner = area_detector(tmp_path / "inner", "AD_HDF5", 2)

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
    assert analysis.drain(120)
    found = {}
    for store in stores.made:
        found.setdefault(store.start["plan_name"], []).append(means(store).tolist())
    assert found["outer"] == [[1.0, 2.0]]
    assert [len(one) for one in found["inner"]] == [2, 2]


def test_a_count_without_the_angle_gives_rows_that_say_so(
    engine: RunEngine, analysis: Analysis, stores: Stores, tmp_path: Path
) -> None:
    engine(count([area_detector(tmp_path, "AD_TIFF", 1)], num=2))
    assert analysis.drain(120)
    frames = stores.only.table("frames")
    assert frames["status"].tolist() == ["failed"] * 2
    assert "the incidence angle 'th' is not in the event" in frames["reason"][0]

"""The simulated beamline: an ophyd detector that writes real HDF5 files while it counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import h5py
import numpy as np
from numpy.typing import NDArray
from ophyd import Component, Device, DeviceStatus, Kind, Signal

__all__ = ["FrameFile", "SimulatedDetector"]

DATASET = "/entry/data/data"

Exposure = Callable[[float], NDArray[np.int32]]


class FrameFile:
    """A NeXus/HDF5 file of frames that can be read while it grows (SWMR)."""

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self.path = path
        self._file = h5py.File(path, "w", libver="latest")
        entry = self._file.create_group("entry")
        entry.attrs.update(NX_class="NXentry", default="data")
        data = entry.create_group("data")
        data.attrs.update(NX_class="NXdata", signal="data")
        self._frames = data.create_dataset(
            "data",
            shape=(0, *shape),
            maxshape=(None, *shape),
            chunks=(1, *shape),
            dtype=np.int32,
            compression="gzip",
            compression_opts=1,
            shuffle=True,
            fillvalue=-1,
        )
        self._frames.attrs["units"] = "counts"
        self._file.attrs["default"] = "entry"
        self._file.swmr_mode = True

    def append(self, frame: NDArray[np.int32]) -> int:
        """Write one frame, make it visible to readers and return how many there are."""
        count = len(self._frames) + 1
        self._frames.resize(count, axis=0)
        self._frames[count - 1] = frame
        self._frames.flush()
        return count

    def close(self) -> None:
        """Close the file; it opens in any HDF5 reader."""
        self._file.close()


class SimulatedDetector(Device):
    """An area detector whose frames go to a file, announced as stream_resource and stream_datum.

    expose: returns the frame (rows, columns) at a time in simulated seconds
    period_s: simulated seconds between two frames; exposure_s: real seconds one takes at least
    """

    time_s = Component(Signal, value=0.0, kind=Kind.hinted)
    incidence_angle = Component(Signal, value=0.0, kind=Kind.config)

    def __init__(
        self,
        *,
        name: str,
        expose: Exposure,
        shape: tuple[int, int],
        directory: Path,
        period_s: float,
        exposure_s: float = 0.1,
    ) -> None:
        super().__init__(name=name)
        self.time_s.name = "time_s"
        self._expose = expose
        self._shape = shape
        self._directory = directory
        self._period_s = period_s
        self._exposure_s = exposure_s
        self._file: FrameFile | None = None
        self._resource = ""
        self._taken = 0
        self._documents: list[tuple[str, dict[str, Any]]] = []

    @property
    def image_key(self) -> str:
        """The data key of the frames."""
        return f"{self.name}_image"

    def stage(self) -> list[Any]:
        """Open a new file for the run."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._resource = str(uuid4())
        self._file = FrameFile(self._directory / f"{self._resource}.h5", self._shape)
        self._taken = 0
        self._documents = [("stream_resource", self._stream_resource(self._file.path))]
        return list(super().stage())

    def unstage(self) -> list[Any]:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        return list(super().unstage())

    def trigger(self) -> DeviceStatus:
        """Acquire one frame in a separate thread, as a real detector would."""
        status = DeviceStatus(self)
        threading.Thread(target=self._acquire, args=(status,), daemon=True).start()
        return status

    def describe(self) -> dict[str, Any]:
        """Describe the clock and the frames in the file."""
        description: dict[str, Any] = dict(super().describe())
        description[self.time_s.name]["units"] = "s"
        description[self.image_key] = {
            "source": f"SIM:{self.name}",
            "dtype": "array",
            "dtype_numpy": "<i4",
            "shape": list(self._shape),
            "units": "counts",
            "external": "STREAM:",
        }
        return description

    def collect_asset_docs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the documents of frames written since the last call."""
        documents, self._documents = self._documents, []
        yield from documents

    def _acquire(self, status: DeviceStatus) -> None:
        began = time.monotonic()
        try:
            if self._file is None:
                message = f"{self.name} was triggered before it was staged"
                raise RuntimeError(message)
            self.time_s.put(self._taken * self._period_s)
            count = self._file.append(self._expose(self.time_s.get()))
            self._documents.append(("stream_datum", self._stream_datum(count)))
            self._taken = count
            time.sleep(max(0.0, self._exposure_s - (time.monotonic() - began)))
        except Exception as error:
            # Any error is raised in the plan that waits for this frame.
            status.set_exception(error)
        else:
            status.set_finished()

    def _stream_resource(self, path: Path) -> dict[str, Any]:
        return {
            "uid": self._resource,
            "data_key": self.image_key,
            "mimetype": "application/x-hdf5",
            "uri": path.absolute().as_uri().replace("file:///", "file://localhost/"),
            "parameters": {
                "dataset": DATASET,
                "chunk_shape": [1, *self._shape],
                "swmr": True,
            },
        }

    def _stream_datum(self, count: int) -> dict[str, Any]:
        return {
            "uid": f"{self._resource}/{count - 1}",
            "stream_resource": self._resource,
            "descriptor": "",
            "indices": {"start": count - 1, "stop": count},
            "seq_nums": {"start": 0, "stop": 0},  # filled in by the RunEngine
        }

"""Copies between host memory and a device, through pinned memory and on streams of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Arriving", "Transfers"]

_STAGED = 2  # frames: one is copied by the host while the other travels


@dataclass(slots=True)
class _Staging:
    """Pinned memory for one frame; `travelled` is None before its first one."""

    bytes: Tensor
    travelled: Any = None


@dataclass(frozen=True, slots=True)
class Arriving:
    """An array on its way from a device; it holds nothing before `wait` returned."""

    array: NDArray[Any]
    pinned: Tensor | None = None
    arrived: Any = None

    def wait(self) -> None:
        """Wait until the array is here."""
        if self.pinned is not None:
            self.arrived.synchronize()
            # Results may be kept for long, and pinned memory is scarce.
            np.copyto(self.array, self.pinned.numpy())


class Transfers:
    """Copies arrays to a device and tensors from it while it computes; plain copies for a CPU.

    What it returns is used on the device's current stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda: Any = torch.cuda if device.type == "cuda" else None  # its stubs know half of it
        self._staging: list[_Staging] = []
        if self._cuda:
            self._up, self._down = (self._cuda.Stream(device) for _ in range(2))

    def up(self, array: NDArray[Any]) -> Tensor:
        """Return a copy of an array of a dtype that torch knows, in any byte order."""
        native = array.dtype.newbyteorder("=")
        if not self._cuda:
            return torch.from_numpy(np.array(array, native, order="C"))
        staged = self._staged(array.nbytes)
        host = staged.bytes[: array.nbytes]
        np.copyto(host.numpy().view(native).reshape(array.shape), array)
        with self._cuda.stream(self._up):
            moved = torch.empty(array.nbytes, dtype=torch.uint8, device=self._device)
            moved.copy_(host, non_blocking=True)
            staged.travelled = self._up.record_event()
        self._staging.append(staged)  # only now: without memory for it, nothing has travelled
        stream = self._cuda.current_stream(self._device)
        stream.wait_event(staged.travelled)
        moved.record_stream(stream)
        return moved.view(torch.from_numpy(np.empty(0, native)).dtype).view(array.shape)

    def down(self, tensor: Tensor) -> Arriving:
        """Return the array that a tensor becomes."""
        if not self._cuda:
            return Arriving(tensor.numpy())
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._down.wait_stream(self._cuda.current_stream(self._device))
        with self._cuda.stream(self._down):
            pinned.copy_(tensor, non_blocking=True)
            tensor.record_stream(self._down)
            arrived = self._down.record_event()
        return Arriving(np.empty_like(pinned.numpy()), pinned, arrived)

    def _staged(self, size: int) -> _Staging:
        """Take pinned memory of at least `size` bytes whose last frame has travelled."""
        if len(self._staging) < _STAGED:
            chosen = _Staging(torch.empty(size, dtype=torch.uint8, pin_memory=True))
        else:
            chosen = self._staging.pop(0)
            chosen.travelled.synchronize()
            if len(chosen.bytes) < size:
                chosen.bytes = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        return chosen

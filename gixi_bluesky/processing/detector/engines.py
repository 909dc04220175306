"""The choice of the library that runs a network on the CPU, and of its threads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Literal, get_args

from gixi_bluesky.errors import WeightsError

__all__ = [
    "Engine",
    "chosen_engine",
    "faster_engine",
    "installed_engines",
    "network_threads",
]

Engine = Literal["torch", "onnx", "openvino"]

# What each needs beyond torch, and what to install for it; the fastest first.
_NEEDS: Mapping[Engine, tuple[tuple[str, ...], str]] = {
    "openvino": (("openvino",), "openvino"),
    "onnx": (("onnxruntime", "onnx", "onnxscript"), "'gixi_bluesky[export]'"),
    "torch": ((), ""),
}


def installed_engines() -> tuple[Engine, ...]:
    """Return the engines whose packages are installed, the fastest first."""
    return tuple(
        engine for engine, (packages, _) in _NEEDS.items() if all(map(find_spec, packages))
    )


def chosen_engine(engine: str, network: str, device: str) -> Engine:
    """Return what runs a network; `auto` is the fastest that is installed and exact.

    All engines compute in float32 and find the same boxes; see `docs/configuration.md`.
    Raises WeightsError for an engine that is unknown, not installed or cannot run the network.
    """
    if engine not in ("auto", *get_args(Engine)):
        message = f"got engine {engine!r}; expected auto, {', '.join(get_args(Engine))}"
        raise WeightsError(message)
    if engine in ("auto", "torch") and (network != "light" or device != "cpu"):
        return "torch"
    if engine == "auto":
        return installed_engines()[0]
    named: Engine = next(one for one in get_args(Engine) if one == engine)
    if network != "light" or device != "cpu":
        message = (
            f"the engine {engine} runs light networks on the CPU; got the network {network} on "
            f"{device}: set detector.engine to auto"
        )
        raise WeightsError(message)
    if named not in installed_engines():
        message = (
            f"the engine {engine} needs a package that is not installed: "
            f"pip install {_NEEDS[named][1]}, or set detector.engine to auto"
        )
        raise WeightsError(message)
    return named


def faster_engine(engine: str, device: str) -> str | None:
    """Return how to run a light network faster on the CPU, None if it runs as fast as it can."""
    fastest = next(iter(_NEEDS))
    if device != "cpu" or engine == fastest:
        return None
    if fastest in installed_engines():
        return f"{fastest} runs the network faster than {engine}: set detector.engine to auto"
    return f"{fastest} runs the network faster than {engine}: pip install {_NEEDS[fastest][1]}"


def network_threads() -> int:
    """Return how many threads a network uses on the CPU: OMP_NUM_THREADS, or one.

    More threads than free cores make torch wait for its own threads, ten times as long as one
    thread takes.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else 1

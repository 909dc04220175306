"""Steps found by entry point or in a file, checked before the first frame."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

from gixi_bluesky.errors import ConfigError
from gixi_bluesky.processing.steps.protocol import Step, StepColumn
from gixi_bluesky.processing.steps.settings import StepSettings

__all__ = ["GROUP", "identity", "is_stateful", "load_step", "load_steps"]

GROUP = "gixi_bluesky.steps"


def load_steps(settings: Iterable[StepSettings]) -> tuple[Step, ...]:
    """Return an instance of each step. Raises ConfigError for one that cannot be used."""
    steps = tuple(load_step(one) for one in settings)
    names = [step.name for step in steps]
    for name in names:
        if names.count(name) > 1:
            message = f"two steps are called {name!r}; their rows would share one table"
            raise ConfigError(message)
    return steps


def load_step(settings: StepSettings) -> Step:
    """Return a new instance of a step. Raises ConfigError for one that cannot be used."""
    factory = _factory(settings)
    try:
        step = factory(**settings.parameters)
    except Exception as error:  # the class is the user's
        message = f"the step {_called(settings)} cannot be made: {type(error).__name__}: {error}"
        raise ConfigError(message) from error
    _check(step, _called(settings))
    return step


def is_stateful(step: Step) -> bool:
    """Return whether a step looks back over frames."""
    return bool(getattr(step, "stateful", False))


def identity(settings: StepSettings, step: Step) -> dict[str, Any]:
    """Return what of a step decides its rows, in JSON types."""
    code = None
    if settings.file is not None:
        code = hashlib.sha256(settings.file.read_bytes()).hexdigest()
    return {
        "name": step.name,
        "version": str(getattr(step, "version", "")),
        "parameters": settings.parameters,
        "sha256": code,
    }


def _factory(settings: StepSettings) -> Callable[..., Any]:
    if settings.file is not None:
        return _of_file(settings)
    found = {entry.name: entry for entry in metadata.entry_points(group=GROUP)}
    if settings.name not in found:
        message = (
            f"no installed package has the step {settings.name!r}; the entry points of {GROUP} "
            f"are {sorted(found) or 'none'}"
        )
        raise ConfigError(message)
    try:
        loaded: Callable[..., Any] = found[settings.name].load()
    except Exception as error:  # the module is the user's
        message = f"the step {settings.name!r} cannot be imported: {type(error).__name__}: {error}"
        raise ConfigError(message) from error
    return loaded


def _of_file(settings: StepSettings) -> Callable[..., Any]:
    path = settings.file
    if path is None or not path.is_file():
        message = f"no file {path}; expected --step FILE.py::CLASS"
        raise ConfigError(message)
    spec = importlib.util.spec_from_file_location(f"gixi_step_{path.stem}", path)
    if spec is None or spec.loader is None:
        message = f"{path} is no Python file; expected --step FILE.py::CLASS"
        raise ConfigError(message)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the file is the user's
        message = f"{path} cannot be run: {type(error).__name__}: {error}"
        raise ConfigError(message) from error
    if not hasattr(module, settings.class_name):
        message = f"{path} has no class {settings.class_name!r}"
        raise ConfigError(message)
    factory: Callable[..., Any] = getattr(module, settings.class_name)
    return factory


def _check(step: object, called: str) -> None:
    if not isinstance(step, Step) or not callable(step):
        message = f"the step {called} has no name, columns or call; see `Write your own step`"
        raise ConfigError(message)
    columns = tuple(step.columns)
    names = [getattr(column, "name", "") for column in columns]
    usable = all(
        isinstance(column, StepColumn) and column.dtype in (float, int, str) for column in columns
    )
    reserved = {"frame", "row", "status", "reason"} & set(names)
    if not usable or not columns or len(set(names)) < len(names) or reserved:
        message = (
            f"the step {called} has the columns {names}; expected at least one StepColumn of "
            "float, int or str, each name once, none of frame, row, status, reason"
        )
        raise ConfigError(message)
    if not str(step.name).isidentifier():
        message = f"the step {called} is named {step.name!r}; expected an identifier"
        raise ConfigError(message)


def _called(settings: StepSettings) -> str:
    if settings.file is None:
        return repr(settings.name)
    return f"{settings.class_name} of {settings.file.name}"

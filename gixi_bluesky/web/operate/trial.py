"""Checks and trials of a configuration, in a child process that may take memory and die."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.checks.findings import Finding
from gixi_bluesky.checks.parts import DECIDING, finding
from gixi_bluesky.errors import ConfigError, FrameError
from gixi_bluesky.processes.child import ChildProcess, portable_error

if TYPE_CHECKING:
    import pandas as pd

    from gixi_bluesky.config import Config

__all__ = ["Check", "FrameOf", "Trial", "TrialProcess", "TriedFrame", "serve"]

_TIMEOUT_S = 180.0
_LARGEST_PIXELS = 100_000_000


@dataclass(frozen=True, slots=True)
class FrameOf:
    """A frame of a stored run; the key opens the raw run for the one who asked."""

    uri: str
    key: str
    path: tuple[str, ...]
    uid: str
    frame: int


@dataclass(frozen=True, slots=True)
class Check:
    """The question whether the parts of a configuration are right."""

    config: Config


@dataclass(frozen=True, slots=True)
class Trial:
    """The question what two configurations find in a frame."""

    before: Config
    after: Config
    frame: FrameOf


@dataclass(frozen=True, slots=True)
class TriedFrame:
    """The peaks and phases that a configuration finds in a frame.

    polar_image: (n_phi, n_q) float32, NaN = no data; grid: q_max in 1/angstrom, n_phi, n_q
    peaks, matches: rows of their tables, of which the page shows a part
    """

    polar_image: NDArray[np.float32]
    q_max: float
    peaks: list[dict[str, Any]]
    matches: list[dict[str, Any]]
    seconds: float


class TrialProcess:
    """One child process for all checks and trials, one after the other."""

    def __init__(self) -> None:
        self._child = ChildProcess(f"{__name__}:serve", name="trial", threads=1)
        self._asking = threading.Lock()

    def check(self, config: Config) -> list[Finding]:
        """Return the findings about the parts that decide results. Raises GixiError."""
        found: list[Finding] = self._ask(Check(config))
        return found

    def compare(self, trial: Trial) -> tuple[TriedFrame, TriedFrame]:
        """Return what both configurations find. Raises GixiError."""
        shown: tuple[TriedFrame, TriedFrame] = self._ask(trial)
        return shown

    def close(self) -> None:
        """End the process."""
        self._child.end()

    def _ask(self, question: Check | Trial) -> Any:
        with self._asking:
            if not self._child.alive:
                self._child.start()
            answer = self._child.ask(question, _TIMEOUT_S)
        if isinstance(answer, Exception):
            raise answer
        return answer


def serve(connection: Connection) -> None:
    """Answer questions until the parent closes the connection; runs in the child process."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            question = connection.recv()
            doing: Callable[[], Any]
            if isinstance(question, Check):
                doing = partial(_checked, question.config)
            else:
                doing = partial(_compared, question)
            connection.send(_outcome(doing))


def _outcome(doing: Callable[[], Any]) -> Any:
    """Return what was found, or the error."""
    try:
        return doing()
    except Exception as error:
        return portable_error(error, "trying the configuration")


def _checked(config: Config) -> list[Finding]:
    return [finding(name, partial(part, config)) for name, part in DECIDING]


def _compared(trial: Trial) -> tuple[TriedFrame, TriedFrame]:
    image, angle = _frame(trial.frame)
    return _shown(trial.before, image, angle), _shown(trial.after, image, angle)


def _shown(config: Config, image: NDArray[Any], angle: float | None) -> TriedFrame:
    from gixi_bluesky.callbacks import with_fetched_dark
    from gixi_bluesky.processing import Pipeline
    from gixi_bluesky.processing.settings import GivenPerFrame

    if config.corrections.sum_frames > 1:
        message = "corrections.sum_frames is above 1; a trial looks at one image only"
        raise ConfigError(message)
    given = isinstance(config.geometry.incidence_angle_deg, GivenPerFrame)
    result = Pipeline(with_fetched_dark(config))(
        image, incidence_angle_deg=angle if given else None
    )
    return TriedFrame(
        np.asarray(result.polar_image, np.float32),
        config.grid.q_max_inv_angstrom,
        _rows(result.peaks),
        _rows(result.matches),
        float(sum(result.seconds.values())),
    )


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _frame(place: FrameOf) -> tuple[NDArray[Any], float | None]:
    """Return the image of a frame and its incidence angle, None where it has no row."""
    from tiled.client import from_uri

    root = from_uri(place.uri, api_key=place.key)
    with contextlib.closing(root.context):
        run = root
        for key in (*place.path, place.uid):
            run = run[key]
        known = run.start["gixi"]
        try:
            images = run.raw[known["raw_stream"]][known["raw_data_key"]]
            n_pixels = int(np.prod(images.shape[1:]))
            if not 0 <= place.frame < images.shape[0] or n_pixels > _LARGEST_PIXELS:
                message = f"frame {place.frame} of {images.shape} images cannot be tried"
                raise FrameError(message)
            image = np.squeeze(np.asarray(images[place.frame]))
        except (KeyError, AttributeError) as error:
            message = f"the raw images of run {place.uid} are not on this server"
            raise FrameError(message) from error
        rows = run.frames()
    angles = rows.loc[rows["frame"] == place.frame, "incidence_angle_deg"]
    if image.ndim != 2:
        message = f"the event of frame {place.frame} holds images {image.shape}; expected one"
        raise FrameError(message)
    return image, float(angles.iloc[0]) if len(angles) else None

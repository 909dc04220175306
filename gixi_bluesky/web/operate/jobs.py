"""Work that the page starts: consumers on Slurm, and stored runs that are analysed again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gixi_bluesky.callbacks.slurm.batch_script import ConsumerArray
from gixi_bluesky.callbacks.slurm.job_arrays import Submission, drain, submit
from gixi_bluesky.checks.consumer_jobs import require_complete, require_keys
from gixi_bluesky.config import Config
from gixi_bluesky.errors import ConfigError, SlurmError
from gixi_bluesky.log import get_logger
from gixi_bluesky.plurals import counted
from gixi_bluesky.web.consumers import last_lines, logs, slurm_job

__all__ = ["Jobs"]

_DRAIN_S = 300.0
_END_S = 30.0
_MOST_TASKS = 256
_MOST_RUNNING = 2
_KEY_VARIABLE = "TILED_API_KEY"
_log = get_logger()


@dataclass(frozen=True, slots=True)
class _Reprocessing:
    """A process that analyses one raw run again."""

    number: int
    raw_uid: str
    version: int
    log: Path
    process: subprocess.Popen[bytes]

    def as_json(self) -> dict[str, Any]:
        code = self.process.poll()
        states = {None: "running", 0: "done"}
        return {
            "number": self.number,
            "raw_uid": self.raw_uid,
            "version": self.version,
            "state": states.get(code, f"ended with status {code}"),
            "lines": last_lines(self.log),
        }


class Jobs:
    """Starts, shows and ends consumers and reprocessing; their files lie below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._slurm = folder / "slurm"
        self._folder = folder / "reprocess"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._changing = threading.Lock()
        self._reprocessing: list[_Reprocessing] = []

    @property
    def consumers_folder(self) -> Path:
        """The folder of heartbeats, logs and the job of the consumers."""
        return self._slurm

    def state(self) -> dict[str, Any]:
        """Return the Slurm job with its logs, and what is analysed again."""
        return {
            "slurm": slurm_job(self._slurm),
            "logs": logs(self._slurm) if self._slurm.is_dir() else [],
            "reprocessing": [one.as_json() for one in reversed(self._reprocessing)],
        }

    def submit(self, config: Config, file: Path, tasks: int) -> int:
        """Submit consumers that use a configuration file, and return the job's number.

        Raises ConfigError for settings that are missing, SlurmError with what sbatch said.
        """
        if not 1 <= tasks <= _MOST_TASKS:
            message = f"got {counted(tasks, 'consumer')}; expected 1 to {_MOST_TASKS}"
            raise ConfigError(message)
        require_complete(config)
        require_keys(config)
        array = ConsumerArray(
            folder=self._slurm,
            tasks=tasks,
            gpus=config.detector.device == "cuda",
            cpus=config.queue.worker_threads + 1,
            consume=("--config", str(file)),
            settings=config.slurm,
            python=sys.executable,
            import_path=os.environ.get("PYTHONPATH", ""),
        )
        with self._changing:
            return submit(array).job_id

    def cancel(self) -> int:
        """Let the consumers finish what they have read, and return the job's number.

        Returns at once; the state shows when they have ended. Raises ConfigError when nothing was
        submitted.
        """
        submission = Submission.of(self._slurm)
        threading.Thread(target=_drain, args=(submission,), name="drain", daemon=True).start()
        return submission.job_id

    def reprocess(self, uri: str, key: str, raw_uid: str, file: Path, version: int) -> int:
        """Analyse a raw run again with a configuration file, and return the number of this job.

        key: opens the server for the one who asked
        """
        with self._changing:
            running = sum(one.process.poll() is None for one in self._reprocessing)
            if running >= _MOST_RUNNING:
                message = f"{running} runs are being analysed again; wait for one, or stop it"
                raise ConfigError(message)
            number = len(self._reprocessing) + 1
            log = self._folder / f"{number:04d}.log"
            options = ["--config", str(file), "--json", "--", uri, raw_uid]
            with log.open("wb") as output:
                process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                    [sys.executable, "-m", "gixi_bluesky", "reprocess", *options],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, _KEY_VARIABLE: key},
                    start_new_session=True,
                )
            self._reprocessing.append(_Reprocessing(number, raw_uid, version, log, process))
        return number

    def stop(self, number: int) -> str:
        """End a reprocessing and return its raw run; frames that are stored stay.

        Raises ConfigError for a number that is none.
        """
        for one in self._reprocessing:
            if one.number == number:
                _interrupt(one.process)
                return one.raw_uid
        message = f"there is no reprocessing {number}"
        raise ConfigError(message)

    def close(self) -> None:
        """End all reprocessing; consumers on Slurm go on."""
        for one in self._reprocessing:
            _interrupt(one.process)
        for one in self._reprocessing:
            try:
                one.process.wait(_END_S)
            except subprocess.TimeoutExpired:
                one.process.kill()


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)


def _drain(submission: Submission) -> None:
    try:
        if not drain(submission, _DRAIN_S, lambda _: None):
            _log.warning("consumers_still_run", job_id=submission.job_id, waited_s=_DRAIN_S)
    except SlurmError as error:
        _log.warning("consumers_not_drained", job_id=submission.job_id, reason=str(error))

"""One consumer of the group as a process of its own, with the pipeline that needs no torch.

python consumer_process.py CONFIG.yaml runs until it is asked to stop, as `gixi-bluesky consume`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fakes import FAKE

from gixi_bluesky.callbacks.derived import stores
from gixi_bluesky.callbacks.kafka.heartbeat import Heartbeat, read_heartbeat
from gixi_bluesky.callbacks.kafka.offsets import StartAt
from gixi_bluesky.callbacks.kafka.service import Service, asked_to_stop
from gixi_bluesky.callbacks.worker.pool import PIPELINE
from gixi_bluesky.config import load_config
from gixi_bluesky.errors import DocumentError
from gixi_bluesky.log import configure_logging
from gixi_bluesky.tiled_adapters.store.spooled_store import SpooledStore
from gixi_bluesky.tiled_adapters.store.writer import RunState

REFUSED_SAMPLE = "refused"
REAL_PIPELINE = "GIXI_REAL_PIPELINE"
FACTORY = "GIXI_FACTORY"
START_AT = "GIXI_START_AT"


class FaultyStore(SpooledStore):
    """A store with a fault that no run of this sample gets past."""

    def open(self, start: Mapping[str, Any]) -> RunState:
        if start.get("sample_name") == REFUSED_SAMPLE:
            message = "a fault that nobody foresaw"
            raise LookupError(message)
        return super().open(start)


class ConsumerProcess:
    """Started with a configuration file; its heartbeat and log lie beside that."""

    def __init__(self, config: Path, name: str, api_key: str, **environment: str) -> None:
        self.heartbeat_file = config.with_name(f"{name}.json")
        self.log = config.with_name(f"{name}.log")
        command = [sys.executable, __file__, str(config), str(self.heartbeat_file)]
        env = {**os.environ, "TILED_API_KEY": api_key, **environment}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env)

    def beat(self) -> Heartbeat | None:
        with contextlib.suppress(OSError, DocumentError):
            beat = read_heartbeat(self.heartbeat_file)
            return beat if beat.pid == self.process.pid else None
        return None

    def wait_until(self, condition: Callable[[Heartbeat], bool], seconds: float = 180) -> Heartbeat:
        deadline = time.monotonic() + seconds
        while True:
            beat = self.beat()
            if beat is not None and condition(beat):
                return beat
            assert self.process.poll() is None, self.log.read_text()[-5000:]
            assert time.monotonic() < deadline, f"{beat}\n{self.log.read_text()[-5000:]}"
            time.sleep(0.1)

    def running(self) -> Heartbeat:
        return self.wait_until(lambda beat: beat.state == "running")

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self, number: int = signal.SIGTERM, seconds: float = 180) -> int:
        """Ask it to end in order and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)


def main() -> None:
    configure_logging("INFO")
    stores.SpooledStore = FaultyStore  # type: ignore[misc]
    config = load_config(sys.argv[1])
    kafka = config.kafka.model_copy(update={"heartbeat_file": Path(sys.argv[2])})
    config = config.model_copy(update={"kafka": kafka})
    with asked_to_stop() as stopping:
        factory = PIPELINE if os.environ.get(REAL_PIPELINE) else os.environ.get(FACTORY, FAKE)
        start_at = StartAt.parse(os.environ.get(START_AT, "earliest"))
        Service(config, start_at, factory=factory).run(stopping)


if __name__ == "__main__":
    main()

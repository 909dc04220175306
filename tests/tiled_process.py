"""The Tiled server in a process of its own, which may be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tiled.client import from_uri

KEY = "abcdefgh12345678"


class Server:
    """`gixi-bluesky serve` in a process of its own, always at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}/api/v1"
        self.contexts: list[Any] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["serve", "--directory", str(self.folder), "--port", str(self.port)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gixi_bluesky", *command],
            env={**os.environ, "TILED_SINGLE_USER_API_KEY": KEY},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.await_answer()

    def await_answer(self) -> None:
        deadline = time.monotonic() + 90
        headers = {"Authorization": f"Apikey {KEY}"}
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.uri}/metadata/gixi", headers=headers).is_success:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        pytest.fail("the server did not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def catalogue(self) -> Any:
        root = from_uri(self.uri, api_key=KEY)
        self.contexts.append(root.context)
        return root["gixi"]

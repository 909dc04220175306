"""Fixtures of the callbacks' tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from bluesky import RunEngine


@pytest.fixture
def engine() -> Iterator[RunEngine]:
    """A RunEngine whose loop ends with the test."""
    loop = asyncio.new_event_loop()
    engine = RunEngine({}, loop=loop, context_managers=[])
    yield engine
    loop.call_soon_threadsafe(loop.stop)
    deadline = time.monotonic() + 120
    while loop.is_running() and time.monotonic() < deadline:
        time.sleep(0.01)
    loop.close()

"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from collections.abc import Generator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

REQUIRE_ALL = os.environ.get("GIXI_REQUIRE_ALL") == "1"

# The same examples every time: a run that fails is one that anyone can repeat.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where GIXI_REQUIRE_ALL=1 says that nothing may be missing."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {report.longrepr}"
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs a GPU where torch sees none."""
    if item.get_closest_marker("gpu") and not gpu_is_seen():
        pytest.skip("torch sees no GPU")


@cache
def gpu_is_seen() -> bool:
    import torch  # heavy, and most tests do without

    return torch.cuda.is_available()


# Fixtures that start a server; tests that use one are left out by `make quick`.
SERVERS = frozenset({"tiled_server", "broker", "slurm_cluster"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start a server through a fixture, and begin with the longest tests."""
    for item in items:
        if SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("server")
    # A long test that begins last would leave the other workers idle.
    items.sort(key=_order)


def _order(item: pytest.Item) -> int:
    first = item.path.stem == "test_everything_at_once"
    return 0 if first else 2 - bool(item.get_closest_marker("system"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real frames and document streams, beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real frames are not in ../shared/data, beside the checkout")
    return folder

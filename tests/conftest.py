"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REQUIRE_ALL = os.environ.get("GIXI_REQUIRE_ALL") == "1"


def skip_or_fail(reason: str) -> None:
    """Skip for a missing part, or fail when GIXI_REQUIRE_ALL=1 says nothing may be missing."""
    if REQUIRE_ALL:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real frames and document streams, beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        skip_or_fail(f"the real frames are not beside the checkout (looked for {folder.name})")
    return folder

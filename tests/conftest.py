"""Fixtures that every test folder shares."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from missing_parts import skip_or_fail

# The same examples every time: a run that fails is one that anyone can repeat.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real frames and document streams, beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        skip_or_fail(f"the real frames are not beside the checkout (looked for {folder.name})")
    return folder

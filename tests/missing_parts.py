"""What a test does where a part of its surroundings is missing."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

REQUIRE_ALL = os.environ.get("GIXI_REQUIRE_ALL") == "1"


def skip_or_fail(reason: str) -> NoReturn:
    """Skip, or fail where GIXI_REQUIRE_ALL=1 says that nothing may be missing."""
    if REQUIRE_ALL:
        pytest.fail(reason)
    pytest.skip(reason)

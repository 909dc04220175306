"""Tests with packages of others, in environments of their own: only by `make interop`."""

from __future__ import annotations

import os

if not os.environ.get("GIXI_INTEROP"):
    collect_ignore_glob = ["test_*.py"]

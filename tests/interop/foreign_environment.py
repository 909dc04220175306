"""An environment that sees this one and holds further packages, kept in .interop/."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]


def foreign_environment(name: str, *packages: str) -> Path:
    """Return the bin folder of an environment with these packages of PyPI, made at first use."""
    home = ROOT / ".interop" / name
    ready = home / ".ready"
    if not ready.exists() or ready.read_text() != " ".join(packages):
        venv.create(home, with_pip=True, clear=True)
        ours = sysconfig.get_paths()["purelib"]
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = home / "lib" / version / "site-packages"
        (site / "zz_gixi.pth").write_text(f"{ours}\n{ROOT}\n")
        pip = [home / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "-q"]
        subprocess.run([*pip, "install", *packages], check=True)
        ready.write_text(" ".join(packages))
    return home / "bin"

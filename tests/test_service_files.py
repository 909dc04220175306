"""Units of systemd, the container file and the template of secrets fit the commands there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from gixi_bluesky.cli import app

EXAMPLES = Path(__file__).parents[1] / "examples"
UNITS = sorted((EXAMPLES / "systemd").glob("*.service"))
KEY_VARIABLES = {"TILED_SINGLE_USER_API_KEY", "TILED_API_KEY"}


def options_of(command: str) -> set[str]:
    found = get_command(app).commands[command]  # type: ignore[attr-defined]
    return {option for parameter in found.params for option in parameter.opts}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_that_exists(unit: Path) -> None:
    text = unit.read_text()
    start = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert start
    program, *words = start[1].split()
    assert program == "/opt/gixi/bin/gixi-bluesky"
    command = next(word for word in words if word in get_command(app).commands)  # type: ignore[attr-defined]
    asked = {word for word in words[words.index(command) :] if word.startswith("--")}
    assert asked <= options_of(command)
    assert "EnvironmentFile=/etc/gixi/secrets.env" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_knows_every_line_of_a_unit(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    reported = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]
    # The program is installed on a beamline's machine, not here.
    assert [line for line in reported if "is not executable" not in line] == []


def test_the_container_file_copies_what_is_there_and_runs_as_a_user() -> None:
    lines = (EXAMPLES / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in steps} <= known
    copied = [rest.split()[:-1] for name, rest in steps if name == "COPY" and "--from" not in rest]
    for source in (source for sources in copied for source in sources):
        assert (EXAMPLES.parent / source).exists(), source
    extras = re.search(r"\.\[([\w,]+)\]", "".join(rest for _, rest in steps))
    assert extras
    declared = (EXAMPLES.parent / "pyproject.toml").read_text()
    for extra in extras[1].split(","):
        assert re.search(rf"^{extra} = \[", declared, re.MULTILINE), extra
    after_user = [name for name, _ in steps][[name for name, _ in steps].index("USER") :]
    assert "RUN" not in after_user


def test_the_template_of_secrets_holds_names_and_no_secret() -> None:
    lines = [
        line for line in (EXAMPLES / "secrets.env").read_text().splitlines() if line[:1] not in "#"
    ]
    assert {line.split("=", 1)[0] for line in lines if line} == KEY_VARIABLES
    assert all(line.endswith("=") for line in lines if line)

"""PostgreSQL and Redis of our own, on loopback ports that are free."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from debian_packages import require_program
from ports import free_port

USER, PASSWORD = "tiled", "s3cretOfTheDatabase"
_DEBIAN_HOME = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True)
class Databases:
    """Where they listen; the password file is as libpq's `.pgpass`."""

    postgresql_port: int
    redis_port: int
    password_file: Path


@contextlib.contextmanager
def running_databases(folder: Path) -> Iterator[Databases]:
    """Start both, with the empty databases `tiled_catalogue` and `tiled_tables`."""
    password_file = folder / "pgpass"
    password_file.touch(0o600)
    password_file.write_text(f"*:*:*:{USER}:{PASSWORD}\n", encoding="utf-8")
    with _redis(folder) as redis_port, _postgresql() as postgresql_port:
        for name in ("tiled_catalogue", "tiled_tables"):
            where = ["-h", "localhost", "-p", str(postgresql_port), "-U", USER]
            subprocess.run(
                [_program("createdb"), *where, name],
                env={**os.environ, "PGPASSFILE": str(password_file)},
                check=True,
            )
        yield Databases(postgresql_port, redis_port, password_file)


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[int]:
    port = free_port()
    program = require_program("redis-server", "redis-server")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        _await_port(port)
        yield port
    finally:
        server.terminate()
        server.wait(120)


@contextlib.contextmanager
def _postgresql() -> Iterator[int]:
    """Start a cluster below /tmp, where its user may enter: PostgreSQL refuses to run as root."""
    port = free_port()
    programs = [_program(name) for name in ("initdb", "pg_ctl")]
    home = Path(tempfile.mkdtemp(prefix="gixi-postgresql-"))
    password = home / "password"
    password.write_text(PASSWORD, encoding="utf-8")
    become: list[str] = []
    if os.geteuid() == 0:
        become = ["runuser", "-u", "postgres", "--"]
        owner = pwd.getpwnam("postgres")
        for path in (home, password):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    data, log = home / "data", home / "log"
    first = [
        "-D",
        str(data),
        "-U",
        USER,
        "-A",
        "scram-sha-256",
        f"--pwfile={password}",
        "-E",
        "UTF8",
    ]
    _run([*become, programs[0], *first, "--no-sync"])
    options = f"-p {port} -k {home} -c listen_addresses=localhost"
    control = [*become, programs[1], "-D", str(data), "-l", str(log), "-w"]
    try:
        _run([*control, "-o", options, "start"])
        yield port
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr


def _program(name: str) -> str:
    folders = sorted(_DEBIAN_HOME.glob("*/bin"), reverse=True)
    path = os.pathsep.join(map(str, folders)) or None
    if path is None:
        require_program("psql", "postgresql")
        folders = sorted(_DEBIAN_HOME.glob("*/bin"), reverse=True)
        path = os.pathsep.join(map(str, folders))
    return require_program(name, "postgresql", path)


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    message = f"nothing listens on port {port}"
    raise AssertionError(message)

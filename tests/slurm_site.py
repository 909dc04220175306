"""Consumers as Slurm jobs between a real broker and a real Tiled server, for the system tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from kafka_broker import Broker, committed, create_topic
from scan_publisher import GEOMETRY
from served import KEY, Server
from slurm_cluster import SlurmCluster, wait_for

from gixi_bluesky.callbacks.kafka.heartbeat import Heartbeat, read_heartbeat
from gixi_bluesky.callbacks.slurm.batch_script import heartbeat_file
from gixi_bluesky.errors import DocumentError
from gixi_bluesky.processing.structures.cif_files import shipped_cifs
from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.schema import STREAMS

SESSION_S = 10.0
PARTITIONS = 4
_PUBLISHER = Path(__file__).with_name("scan_publisher.py")


class Scan:
    """A beamline that publishes runs, in a process of its own."""

    def __init__(self, broker: Broker, topic: str, folder: Path, *numbers: float) -> None:
        self.runs: list[str] = []
        self.acknowledged: dict[int, int] = {}
        self.folder = folder
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, str(_PUBLISHER), broker.bootstrap, topic, str(folder)]
            + [str(number) for number in numbers],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def await_run(self, number: int) -> str:
        """Wait until a run has begun; return its uid."""
        wait_for(lambda: len(self.runs) > number or self._failed, f"run {number} begins", 400)
        assert not self._failed
        return self.runs[number]

    def finish(self) -> None:
        """Wait until everything is acknowledged."""
        assert self._process.wait(400) == 0
        self._reader.join(120)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def _failed(self) -> bool:
        return self._process.poll() not in {None, 0}

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as reported:
            for line in reported:
                what = json.loads(line)
                assert "error" not in what, what
                if "run" in what:
                    self.runs.append(what["run"])
                else:
                    self.acknowledged = {int(p): n for p, n in what["acknowledged"].items()}


class SlurmSite:
    """A broker, a Tiled server and a cluster, and a configuration that the jobs see."""

    def __init__(self, broker: Broker, server: Server, slurm: SlurmCluster) -> None:
        # Where the server may read.
        self.folder = folder = Path(tempfile.mkdtemp(prefix="slurm-", dir=server.directory))
        self.broker = broker
        self.server = server
        self.slurm = slurm
        self.config = folder / "config.yaml"
        key = folder / "tiled.key"
        key.write_text(KEY)
        key.chmod(0o600)
        tree = {
            "input": {"roots": [str(folder)], "file_timeout_s": 120},
            "geometry": GEOMETRY,
            "grid": {"q_max_inv_angstrom": 3.0, "shape": [64, 128]},
            "detector": {"weights": "classical"},
            "matching": {"cif": [str(shipped_cifs()["MAPbBr3"])]},
            "output": {"directory": str(folder / "results")},
            "tiled": {"api_key_file": str(key)},
            "kafka": {"session_s": SESSION_S},
            # One consumer a node, with one thread for its numbers.
            "slurm": {
                "sbatch": ["--cpus-per-task=5"],
                "prologue": ["export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1"],
            },
        }
        self.config.write_text(yaml.safe_dump(tree))

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `gixi-bluesky slurm …` as a user would."""
        return subprocess.run(
            [sys.executable, "-m", "gixi_bluesky", "slurm", *words],
            env=self.slurm.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )

    def scontrol(self, *words: str) -> str:
        """Do what an operator of the cluster does; return what it says."""
        return self.slurm.run("scontrol", *words)

    def submit(self, topic: str, *options: str) -> Job:
        """Submit consumers of a topic, which is made for them."""
        create_topic(self.broker.bootstrap, topic, PARTITIONS)
        folder = self.folder / f"job {topic}"
        where = ("--bootstrap", self.broker.bootstrap, "--tiled", self.server.uri)
        what = ("--topic", topic, "--group", f"group-{topic}", "--from", "earliest")
        done = self.command(
            *("submit", "--config", str(self.config), "--folder", str(folder)),
            *(*where, *what, "--json", *options),
        )
        assert done.returncode == 0, done.stderr
        return Job(self, topic, folder, json.loads(done.stdout)["job_id"])

    def publish(self, topic: str, *numbers: float) -> Scan:
        """Begin to publish so many runs of so many frames, each of so many seconds."""
        return Scan(self.broker, topic, self.folder / f"scan-{topic}-{time.time_ns()}", *numbers)

    def preempt(self, node: str) -> None:
        """Have a node needed, for a moment, by a job of a partition that is more important."""
        urgent = ("--partition=urgent", f"--nodelist={node}", "--exclusive", "--output=/dev/null")
        self.slurm.run("sbatch", *urgent, "--wrap=sleep 1")

    def derived(self, raw_uid: str) -> list[Any]:
        """Return the derived runs of a raw run."""
        return queries.runs_for(self.server.catalog("gixi"), raw_uid)

    def await_stored(self, raw_uids: list[str], frames: int, timeout_s: float = 300.0) -> None:
        """Wait until every run is stored with so many frames."""
        catalogue = self.server.catalog("gixi")

        def stored(uid: str) -> bool:
            stops = [run.metadata.get("stop") for run in queries.runs_for(catalogue, uid)]
            return [stop and stop["gixi"]["n_frames"] for stop in stops] == [frames]

        left = list(raw_uids)

        def all_stored() -> bool:
            while left and stored(left[0]):
                left.pop(0)
            return not left

        # Asking keeps the server from storing.
        wait_for(all_stored, "every run stored", timeout_s, pause_s=1.0)

    def committed(self, topic: str) -> dict[int, int]:
        """Return the committed offset of each partition that has messages."""
        found = committed(self.broker.bootstrap, f"group-{topic}", topic, PARTITIONS)
        return {number: offset for number, offset in found.items() if offset > 0}


class Job:
    """The consumers of one submission."""

    def __init__(self, site: SlurmSite, topic: str, folder: Path, job_id: int) -> None:
        self.site = site
        self.topic = topic
        self.folder = folder
        self.id = job_id
        self.submitted = time.monotonic()

    def status(self) -> list[dict[str, Any]]:
        done = self.site.command("status", "--folder", str(self.folder), "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def beat(self, task: int) -> Heartbeat | None:
        try:
            return read_heartbeat(heartbeat_file(self.folder, task))
        except (OSError, DocumentError):
            return None

    def log(self, task: int) -> str:
        return (self.folder / f"consumer-{task}.log").read_text()

    def starts(self, task: int) -> int:
        """Return how often a consumer was started: more than it was killed if its client ended."""
        return self.log(task).count(f" of task {task} on ")

    def await_running(self, tasks: int, since: float = 0.0) -> None:
        """Wait until every consumer has beaten after `since`, and they share all partitions."""

        def shared() -> bool:
            beats = [self.beat(task) for task in range(tasks)]
            places = [place for beat in beats if beat for place in beat.partitions]
            return (
                all(beat and beat.state == "running" and beat.time > since for beat in beats)
                and len(places) == len(set(places)) == PARTITIONS
            )

        wait_for(shared, "all consumers running", 300)

    def await_start(self, task: int, number: int) -> float:
        """Wait until a consumer was started so many times; return when, in seconds since 1970."""
        mark = re.compile(rf"start {number} of task {task} on \S+ at (\S+),")
        wait_for(lambda: mark.search(self.log(task)), f"start {number} of task {task}", 300)
        found = mark.search(self.log(task))
        assert found is not None
        return datetime.fromisoformat(found[1]).timestamp()

    def cancel(self) -> float:
        """Drain; return how long it took."""
        began = time.monotonic()
        done = self.site.command("cancel", "--folder", str(self.folder), "--json")
        assert done.returncode == 0, done.stderr
        reported = json.loads(done.stdout)
        assert reported["ended"]
        assert set(reported["states"].values()) == {"COMPLETED"}
        return time.monotonic() - began


def tables(run: Any) -> dict[str, pd.DataFrame]:
    """Return the tables of a stored run, without what says how long it took."""
    found = {}
    for stream in STREAMS:
        rows = run[stream].base["internal"].read()
        assert rows["seq_num"].tolist() == list(range(1, len(rows) + 1)), stream
        found[stream] = comparable(rows)
    return found


def comparable(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows in an order that does not tell in which order they were stored."""
    kept = [name for name in rows.columns if name not in {"seq_num", "time", "latency"}]
    kept = [name for name in kept if not name.startswith("ts_")]
    keys = [name for name in ("frame", "peak", "phase", "h", "k", "l") if name in kept]
    return rows[sorted(kept)].sort_values(keys).reset_index(drop=True)

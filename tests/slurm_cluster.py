"""A real Slurm on one machine: munge, slurmctld and a slurmd for each node, with false GPUs.

Loopback only, no systemd, no cgroups; everything it writes is in one folder. Run as a program it
keeps the daemons, and when its stdin closes (the tests ended, however) it kills them and all jobs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from debian_packages import require_program
from ports import free_port

PROGRAMS = {  # and the packages that they come in
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
}
NODES = ("gixi0", "gixi1")
GPUS_PER_NODE = 2
_CPUS_PER_NODE = 8  # as many as the jobs ask for, whatever the machine has
_START_S = 120.0

# preempt_send_user_signal: a grace time, which a test may set, begins with the job's own signal
# (newer Slurms: PreemptParameters=send_user_signal). cred_expire: a requeued job waits so long (by
# default two minutes). A false GPU must be a character device, or CUDA_VISIBLE_DEVICES is not set.
_CONFIGURATION = """\
ClusterName=gixi
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=10
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=30
GresTypes=gpu
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


class SlurmCluster:
    """A running cluster; commands find it by SLURM_CONF, which `environment` holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self._keeper: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemons and wait until both nodes are idle."""
        write_configuration(self.folder)
        with (self.folder / "keeper.log").open("wb") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, __file__, str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(lambda: len(self.idle_nodes()) == len(NODES), "both nodes idle", _START_S)

    def stop(self) -> None:
        """Kill every job and daemon."""
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()
            self._keeper.wait(120)

    def run(self, *command: str, check: bool = True) -> str:
        """Return what a Slurm command says."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=180
        )
        if check and done.returncode:
            pytest.fail(f"{command}: {done.stderr}")
        return done.stdout

    def idle_nodes(self) -> set[str]:
        reported = self.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N", check=False)
        return set(reported.split())

    def clear(self) -> None:
        """End every job at once and bring every node back."""
        self.run("scancel", "--user=root", "--signal=KILL", "--full", check=False)
        self.run("scancel", "--user=root", check=False)
        for node in NODES:
            self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        wait_for(lambda: len(self.idle_nodes()) == len(NODES), "both nodes idle", _START_S)


def write_configuration(folder: Path) -> None:
    (folder / "state").mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    controller_port, *node_ports = (free_port() for _ in range(1 + len(NODES)))
    lines = [_CONFIGURATION.format(folder=folder, controller_port=controller_port)]
    devices = []
    for number in range(GPUS_PER_NODE):
        os.mknod(folder / f"gpu{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    for node, port in zip(NODES, node_ports, strict=True):
        (folder / f"spool.{node}").mkdir()
        lines.append(
            f"NodeName={node} NodeHostname={node} NodeAddr=127.0.0.1 Port={port} "
            f"CPUs={_CPUS_PER_NODE} RealMemory=1000 Gres=gpu:{GPUS_PER_NODE}\n"
        )
        devices += [
            f"NodeName={node} Name=gpu File={folder}/gpu{number}\n"
            for number in range(GPUS_PER_NODE)
        ]
    (folder / "slurm.conf").write_text("".join(lines))
    (folder / "gres.conf").write_text("".join(devices))


def wait_for(
    condition: Callable[[], object], what: str, timeout_s: float = 180.0, pause_s: float = 0.1
) -> float:
    """Wait until a condition holds; return after how many seconds it did."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            pytest.fail(f"not within {timeout_s:g} s: {what}")
        time.sleep(pause_s)
    return time.monotonic() - began


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A two-node Slurm of this test process; SLURM_CONF leads the commands to it."""
    for name in PROGRAMS:
        daemon(name)
    if os.geteuid() != 0:
        pytest.skip("a Slurm of one's own needs root: its false GPUs are device nodes")
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    except PermissionError as error:
        pytest.skip(f"this root may not make device nodes, which false GPUs are: {error}")
    finally:
        cluster.stop()


def keep(folder: Path) -> None:
    """Run the daemons until stdin closes, then kill all that knows this cluster's slurm.conf."""
    configuration = folder / "slurm.conf"
    environment = {**os.environ, "SLURM_CONF": str(configuration)}

    def start(name: str, *options: str) -> None:
        command = [daemon(name), *options]
        subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)

    # No terminal and no group of ours: a Ctrl-C at the tests comes here as the end of stdin.
    start("munged", "--foreground", "--force", *munge_options(folder))
    wait_for((folder / "munge.sock").exists, "munge's socket")
    start("slurmctld", "-D", "-f", str(configuration))
    for node in NODES:
        start("slurmd", "-D", "-f", str(configuration), "-N", node)
    sys.stdin.read()
    while left := list(processes_of(configuration)):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def daemon(name: str) -> str:
    """Return where a program is; daemons are not on everybody's path."""
    return require_program(name, PROGRAMS[name], path="/usr/sbin")


def munge_options(folder: Path) -> Sequence[str]:
    return (
        f"--key-file={folder}/munge.key",
        f"--socket={folder}/munge.sock",
        f"--pid-file={folder}/munged.pid",
        f"--log-file={folder}/munged.log",
        f"--seed-file={folder}/munge.seed",
    )


def processes_of(configuration: Path) -> Iterator[int]:
    """Yield the daemons, job steps and jobs of a cluster: all were started with its SLURM_CONF."""
    mark = f"SLURM_CONF={configuration}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            # A zombie has no environment left.
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))

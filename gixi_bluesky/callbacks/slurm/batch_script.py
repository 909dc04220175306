"""The batch script of Kafka consumers on Slurm: an array of tasks with one consumer each."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gixi_bluesky.callbacks.settings import SlurmSettings
from gixi_bluesky.errors import ConfigError
from gixi_bluesky.tiled_adapters.settings import holds_secret

__all__ = ["DRAIN_S", "ConsumerArray", "batch_script", "heartbeat_file", "log_file"]

DRAIN_S = 120  # time before the limit at which the consumer is signalled

_OPTIONS = "-m gixi_bluesky --log-level info --log-format json"

# What the script and the commands rely on. sbatch takes every beginning of a long option for it.
_OURS = ("--array", "-a", "--output", "-o", "--error", "-e", "--chdir", "-D", "--wrap")
# One of its short options, perhaps behind others that take no value: -Qo FILE.
_OUR_SHORT_ONES = re.compile(r"-[HhIkOQsvVW]*[aoeD]")

_SIGNALS = r"""
# USR1 comes before the time limit, and at preemption where the cluster sends it for the grace time;
# TERM with cancel, requeue and any other preemption, and KillWait later KILL. Both drain: what was
# read is stored and its offsets are committed, then the consumer ends.
consumer='' draining='' signalled='' interrupted='' requeue=''
drain() { interrupted=yes draining=yes; forward; }
forward() {
  if [ -n "$draining" ] && [ -n "$consumer" ] && [ -z "$signalled" ]; then
    signalled=yes
    kill -TERM "$consumer"
  fi
}
trap 'requeue=yes; drain' USR1
trap 'requeue=""; drain' TERM
"""
_CONSUMER = r"""
began=$folder/consumer-$SLURM_ARRAY_TASK_ID.began
heartbeat=$folder/consumer-$SLURM_ARRAY_TASK_ID.json
touch "$began"
echo "start $((${SLURM_RESTART_COUNT:-0} + 1)) of task $SLURM_ARRAY_TASK_ID on $SLURMD_NODENAME" \
  "at $(date -u +%FT%TZ), GPU ${CUDA_VISIBLE_DEVICES:-none}" >&2
status=0
if [ -z "$draining" ]; then
  "${command[@]}" --heartbeat "$heartbeat" &
  consumer=$!
  forward
  # A signal ends `wait` early, not the consumer.
  while interrupted=''; wait "$consumer"; status=$?; [ -n "$interrupted" ]; do :; done
fi
if [ -n "$draining" ] && [ "$status" -eq 143 ]; then
  status=0  # signalled before it had begun
fi

# The set-up of what was started before was right; status 2 says that this one is wrong.
ran() {
  [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || { [ "$status" -ne 2 ] && [ "$heartbeat" -nt "$began" ]; }
}
if [ -n "$requeue" ]; then
  echo "drained, goes on in a new start" >&2
elif [ -z "$draining" ] && [ "$status" -ne 0 ] && ran; then
  echo "the consumer died with status $status, a new one is started" >&2
else
  exit "$status"  # drained, or it would fail again
fi
# Not SLURM_JOB_ID: that of one task is the whole array's.
scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" || exit 1
exit "$status"
"""


@dataclass(frozen=True, slots=True)
class ConsumerArray:
    """One submission.

    folder: where script, logs and heartbeats go; absolute, and every node sees it
    tasks: how many consumers; gpus: whether each gets a GPU; cpus: cores for each
    consume: the options of `gixi-bluesky consume`, without --heartbeat
    python: the interpreter on the nodes; import_path: its PYTHONPATH, empty for none
    """

    folder: Path
    tasks: int
    gpus: bool
    cpus: int
    consume: tuple[str, ...]
    settings: SlurmSettings
    python: str
    import_path: str = ""


def heartbeat_file(folder: Path, task: int) -> Path:
    """Return the heartbeat file of a task's consumer."""
    return folder / f"consumer-{task}.json"


def log_file(folder: Path, task: int) -> Path:
    """Return the log file of all starts of a task."""
    return folder / f"consumer-{task}.log"


def batch_script(array: ConsumerArray) -> str:
    """Return the batch script, to be submitted from the array's folder.

    Raises ConfigError for what cannot stand in it: line breaks, options that the script itself
    sets, a folder name that Slurm would change, a key.
    """
    _check(array)
    lines = (*_head(array), _SIGNALS, *array.settings.prologue, _CONSUMER)
    return "\n".join(line.strip("\n") for line in lines) + "\n"


def _head(array: ConsumerArray) -> Iterator[str]:
    yield "#!/bin/bash"
    yield "# Kafka consumers, one a task; written by `gixi-bluesky slurm submit`."
    for option in _options(array):
        yield f"#SBATCH {option}"
    yield ""
    yield f"folder={shlex.quote(str(array.folder))}"
    yield f"command=({shlex.quote(array.python)} {_OPTIONS} consume"
    yield from (f"  {line}" for line in _option_lines(array.consume))
    yield ")"
    if array.import_path:
        yield f"export PYTHONPATH={shlex.quote(array.import_path)}"


def _options(array: ConsumerArray) -> Iterator[str]:
    settings = array.settings
    yield "--job-name=gixi"
    yield f"--array=0-{array.tasks - 1}"
    yield "--nodes=1"
    yield "--ntasks=1"
    yield f"--cpus-per-task={array.cpus}"
    if array.gpus:
        yield "--gres=gpu:1"
    for option in ("partition", "time", "account", "qos"):
        if value := getattr(settings, option):
            yield f"--{option}={shlex.quote(value)}"
    yield "--requeue"
    yield f"--signal=B:USR1@{DRAIN_S}"
    yield "--open-mode=append"
    yield "--export=NONE"
    yield "--output=consumer-%a.log"
    yield from settings.sbatch  # last: the last of two wins


def _option_lines(words: Sequence[str]) -> Iterator[str]:
    """Yield words for the shell, an option and its values a line."""
    line: list[str] = []
    for word in words:
        if word.startswith("--") and line:
            yield shlex.join(line)
            line = []
        line.append(word)
    if line:
        yield shlex.join(line)


def _check(array: ConsumerArray) -> None:
    settings = array.settings
    values = [settings.partition, settings.time, settings.account, settings.qos, array.import_path]
    lines = (
        str(array.folder),
        array.python,
        *array.consume,
        *settings.sbatch,
        *filter(None, values),
    )
    for line in (*lines, *settings.prologue):
        if not line.isprintable():
            message = f"got {line!r}; the batch script takes one line without control characters"
            raise ConfigError(message)
    if "%" in str(array.folder) or "\\" in str(array.folder):
        message = (
            f"got the folder {array.folder}; Slurm replaces % and \\ in the names of log files, so "
            "give a folder without them"
        )
        raise ConfigError(message)
    for option in settings.sbatch:
        if not option.startswith("-") or any(_is_ours(name) for name in _names(option)):
            message = (
                f"got the sbatch option {option!r}; expected one such as --constraint=a100, and "
                f"none of {', '.join(_OURS)}, which the script sets"
            )
            raise ConfigError(message)
    for word in array.consume:
        if "://" in word and holds_secret(word):
            message = (
                "a URI of the consumer holds a key or password, which must not stand in a batch "
                "script; put it into tiled.api_key_file"
            )
            raise ConfigError(message)


def _names(option: str) -> list[str]:
    try:
        return [word.split("=")[0] for word in shlex.split(option)]
    except ValueError as error:
        message = f"got the sbatch option {option!r}: {error}"
        raise ConfigError(message) from error


def _is_ours(name: str) -> bool:
    """Return whether sbatch would or might read a word as an option that the script sets."""
    if name.startswith("--"):
        return any(ours.startswith(name) for ours in _OURS)
    return _OUR_SHORT_ONES.match(name) is not None

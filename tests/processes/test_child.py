"""A child process answers, is limited, and ends whatever becomes of either side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import child_targets
import numpy as np
import pytest
from waiting import wait_until

from gixi_bluesky.errors import FrameError, GixiError
from gixi_bluesky.processes import child as child_module
from gixi_bluesky.processes import peer as peer_module
from gixi_bluesky.processes.child import ChildProcess, portable_error
from gixi_bluesky.processes.limits import Limits
from gixi_bluesky.processes.peer import ProcessEndedError
from gixi_bluesky.processes.shared_blocks import SharedBlock


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ChildProcess]]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    children: list[ChildProcess] = []

    def start(target: Callable[..., None], **options: object) -> ChildProcess:
        child = ChildProcess(f"child_targets:{target.__name__}", name="test", **options)  # type: ignore[arg-type]
        children.append(child)
        child.start()
        return child

    yield start
    for child in children:
        child.end()
        assert not child.alive


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_messages_come_back_and_silence_is_a_timeout(started: Callable[..., ChildProcess]) -> None:
    child = started(child_targets.echo)
    assert child.ask({"a": 1}, timeout=120) == {"a": 1}
    with pytest.raises(TimeoutError, match=r"the test process did not answer within 0\.01 s"):
        child.receive(timeout=0.01)
    assert child.ask(None, timeout=120) is None


def test_a_child_is_limited_and_stands_in_an_empty_folder(
    started: Callable[..., ChildProcess],
) -> None:
    limits = Limits(open_files=100, niceness=3)
    child = started(child_targets.surroundings, limits=limits, threads=2)
    found = child.receive(timeout=120)
    assert isinstance(found, dict)
    assert found["folder"] == []
    assert found["niceness"] == min(19, os.nice(0) + 3)
    assert found["oom"] == "1000"
    assert found["files"] == 100
    assert found["threads"] == "2"


def test_memory_beyond_the_limit_is_an_error_of_the_child(
    started: Callable[..., ChildProcess],
) -> None:
    child = started(child_targets.fills_memory, limits=Limits(memory_gib=1))
    assert child.receive(timeout=120) == "MemoryError"


def test_a_module_beside_the_script_does_not_hide_one_of_the_library(tmp_path: Path) -> None:
    """The script's folder comes first in sys.path, and holds a `re.py`."""
    (tmp_path / "re.py").write_text("raise RuntimeError('this is not the library')\n")
    here = str(Path(__file__).parent)
    root = str(Path(__file__).parents[2])
    script = tmp_path / "scan.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        folder = sys.path.pop(0)
        sys.path += [{here!r}, {root!r}]
        from gixi_bluesky.processes.child import ChildProcess
        sys.path.insert(0, folder)
        child = ChildProcess("child_targets:surroundings", name="test")
        child.start()
        found = child.receive(120)
        child.end()
        print(found["re"])
        assert folder in found["path"]
        """)
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stdout.startswith(str(tmp_path))


def test_arrays_are_shared_without_a_copy_of_theirs(started: Callable[..., ChildProcess]) -> None:
    block = SharedBlock()
    child = started(child_targets.sums, keep=[block.descriptor])
    for array in (np.arange(12.0).reshape(3, 4).T, np.full((5, 5), 7, np.uint8), np.empty((0, 3))):
        assert child.ask(block.share(array), timeout=120) == array.sum()
    block.close()
    block.close()


def test_a_dead_child_is_noticed_and_can_be_started_again(
    started: Callable[..., ChildProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "_EXIT_S", 60.0)
    child = started(child_targets.dies)
    for _ in range(2):
        with pytest.raises(ProcessEndedError, match=r"the test process ended by signal 9 \(Killed"):
            child.ask("x", timeout=120)
        child.start()
    child.end()
    with pytest.raises(ProcessEndedError):
        child.send("x")


def test_a_child_that_does_not_answer_in_time_is_killed(
    started: Callable[..., ChildProcess],
) -> None:
    child = started(child_targets.busy)
    child.receive(timeout=120)
    with pytest.raises(ProcessEndedError, match=r"did not answer within 0\.1 s"):
        child.ask("x", timeout=0.1)
    assert not child.alive


def test_half_a_message_does_not_block_the_parent_for_ever(
    started: Callable[..., ChildProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_module, "STUCK_S", 1)
    child = started(child_targets.freezes_half_way)
    with pytest.raises(ProcessEndedError, match="no longer answers"):
        child.receive(timeout=120)


def test_a_busy_child_ends_with_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys, time
        sys.path[:0] = [{str(Path(__file__).parents[2])!r}, {str(Path(__file__).parent)!r}]
        from gixi_bluesky.processes.child import ChildProcess
        child = ChildProcess("child_targets:busy", name="test")
        child.start()
        print(child.receive(120), flush=True)
        time.sleep(60)
        """)
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: gone(pid))


def test_a_forked_parent_does_not_end_the_child(started: Callable[..., ChildProcess]) -> None:
    child = started(child_targets.echo)
    forked = os.fork()
    if forked == 0:
        child.end()
        os._exit(0)
    os.waitpid(forked, 0)
    assert child.ask("still there", timeout=120) == "still there"


def test_errors_reach_the_parent_as_ours() -> None:
    same = portable_error(FrameError("no pixel"), "the frame cannot be read")
    assert isinstance(same, FrameError)
    assert str(same) == "no pixel"
    other = portable_error(LookupError("x"), "the frame cannot be read")
    assert type(other) is GixiError
    assert str(other) == "the frame cannot be read: LookupError: x"


def test_threads_that_end_a_child_together_close_its_connection_once(
    started: Callable[..., ChildProcess],
) -> None:
    """A second close would hit a file that got the number of the first one meanwhile."""
    child = started(child_targets.echo)
    assert child.connection is not None
    closed: list[int] = []
    close = child.connection.close
    child.connection.close = lambda: (closed.append(1), close())  # type: ignore[method-assign]
    together = threading.Barrier(8)

    def end() -> None:
        together.wait()
        child.end()

    with ThreadPoolExecutor(8) as threads:
        for ended in [threads.submit(end) for _ in range(8)]:
            ended.result(60)
    assert closed == [1]

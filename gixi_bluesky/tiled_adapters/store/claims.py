"""One writer per derived run: claims are Tiled nodes whose second creation the server refuses."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from tiled.client.utils import ClientError
from tiled.queries import Eq

from gixi_bluesky.errors import ClaimLostError, StoreError
from gixi_bluesky.log import get_logger
from gixi_bluesky.tiled_adapters.connection import container_beside

__all__ = ["CLAIMS", "SESSION_S", "Claim", "store_errors"]

CLAIMS = "gixi_claims"
SESSION_S = 15.0
_CONFLICT = 409
_log = get_logger()


@contextlib.contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Convert errors of the Tiled client into StoreError that names the operation."""
    try:
        yield
    except ClientError as error:
        status = error.response.status_code
        hint = {
            401: "; give a valid key in TILED_API_KEY or `tiled.api_key_file`",
            403: "; the key may not do this, ask for the scopes create, write:metadata, write:data",
        }.get(status, "")
        message = f"Tiled refused {doing}: {error}{hint}"
        raise StoreError(message) from error
    except httpx.HTTPError as error:
        message = f"Tiled failed while {doing}: {error!r}; it will be retried, or resume the run"
        raise StoreError(message) from error


class Claim:
    """The right to write one derived run, kept by a heartbeat within every session.

    Another writer takes it over only after watching the heartbeat for a whole session, so that
    clocks are never compared; the claim of a dead process of the same machine is taken over at
    once.

    alive: returns whether this writer may go on; while False, it neither beats nor writes
    patience: number of sessions to wait for a silent holder
    """

    def __init__(
        self,
        client: Any,
        uid: str,
        session_s: float = SESSION_S,
        alive: Callable[[], bool] = lambda: True,
        patience: float = 1.0,
    ) -> None:
        self._alive = alive
        self._patience = patience
        self._nodes = container_beside(client, CLAIMS)
        self._uid = uid
        self._session_s = session_s
        self._beats = 0
        self._last_beat = 0.0
        self._node: Any = None
        self._epoch = 0
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    def acquire(self) -> None:
        """Take the claim; wait for a silent holder. Raises ClaimLostError."""
        holder = self._latest()
        if holder is not None:
            self._await_silence(holder)
        self._create((holder.metadata["epoch"] if holder is not None else 0) + 1)
        if holder is not None:
            self._drop_older()
        threading.Thread(target=self._keep_beating, name="gixi-claim", daemon=True).start()

    def check(self) -> None:
        """Raise ClaimLostError unless this writer may write now, StoreError if that is unknown.

        A writer that was silent for a session takes a new epoch first, which the server refuses if
        another writer has taken the run meanwhile.
        """
        if not self._alive():
            message = f"run {self._uid} is not written while this process may have lost it"
            raise StoreError(message)
        with self._lock:
            if self._node is None:
                raise ClaimLostError(self._lost("the claim was given up"))
            if self._silent_s() <= self._session_s:
                return
            _log.warning("claim_expired", uid=self._uid, silent_s=round(self._silent_s(), 1))
            with store_errors("looking at its claim"):
                latest = self._latest()
            if latest is None or latest.metadata["epoch"] != self._epoch:
                self._node = None
                raise ClaimLostError(self._lost("another writer took over while this one slept"))
            self._create(self._epoch + 1)
            self._drop_older()

    def release(self) -> None:
        """Release the claim, so that the next writer need not wait."""
        self._stopped.set()
        with self._lock:
            if self._node is None:
                return
            self._node = None
            with contextlib.suppress(httpx.HTTPError, KeyError):
                self._nodes.delete_contents([self._key(self._epoch)], recursive=True)

    def _silent_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self._last_beat

    def _key(self, epoch: int) -> str:
        return f"{self._uid}-{epoch}"

    def _latest(self) -> Any:
        nodes = list(self._nodes.search(Eq("uid", self._uid)).values())
        return max(nodes, key=lambda node: node.metadata["epoch"], default=None)

    def _await_silence(self, holder: Any) -> None:
        owner = holder.metadata
        if _is_dead(owner):
            return
        deadline = time.monotonic() + owner["session_s"] * self._patience
        while time.monotonic() < deadline:
            time.sleep(min(0.5, owner["session_s"] / 10))
            now = self._latest()
            if now is None:
                return
            if (now.metadata["epoch"], now.metadata["beats"]) != (owner["epoch"], owner["beats"]):
                raise ClaimLostError(
                    self._lost(f"{owner['host']} process {owner['pid']} writes it")
                )

    def _create(self, epoch: int) -> None:
        began = time.clock_gettime(time.CLOCK_BOOTTIME)
        try:
            self._node = self._nodes.create_container(
                self._key(epoch),
                metadata={
                    "uid": self._uid,
                    "epoch": epoch,
                    "beats": 0,
                    "session_s": self._session_s,
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "machine": _machine(),
                },
            )
        except ClientError as error:
            self._node = None
            if error.response.status_code == _CONFLICT:
                raise ClaimLostError(self._lost("another writer was faster")) from error
            raise
        self._epoch, self._beats, self._last_beat = epoch, 0, began

    def _drop_older(self) -> None:
        """Remove the nodes of earlier holders: a holder without a node cannot come back."""
        for key in list(self._nodes.search(Eq("uid", self._uid))):
            if key != self._key(self._epoch):
                with contextlib.suppress(httpx.HTTPError, KeyError):
                    self._nodes.delete_contents([key], recursive=True)

    def _keep_beating(self) -> None:
        while not self._stopped.wait(self._session_s / 5):
            with self._lock:
                if self._node is None:
                    return
                if self._silent_s() > self._session_s or not self._alive():
                    continue  # too late to beat: `check` decides
                node = self._node
            began = time.clock_gettime(time.CLOCK_BOOTTIME)
            try:
                node.update_metadata({"beats": self._beats + 1}, drop_revision=True)
            except RuntimeError:  # the client was closed
                return
            except Exception as error:  # whatever Tiled raises, the next beat may succeed
                _log.warning("claim_beat_failed", uid=self._uid, error=repr(error))
                continue
            self._beats += 1
            self._last_beat = began

    def _lost(self, why: str) -> str:
        return f"derived run {self._uid} has another writer: {why}; this writer must stop"


def _machine() -> str:
    """Return an identity that processes share if and only if they see each other's process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - not a path
    except OSError:
        return ""


def _is_dead(owner: dict[str, Any]) -> bool:
    if not owner["machine"] or owner["machine"] != _machine():
        return False
    return not Path(f"/proc/{owner['pid']}").exists()

"""Spools that earlier processes left, sent to Tiled or set aside."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from gixi_bluesky.errors import ClaimLostError, DocumentError, RunCompleteError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processes.retries import Backoff
from gixi_bluesky.tiled_adapters.store.delivery import Delivery, NewStore
from gixi_bluesky.tiled_adapters.store.spool import SpoolFile, SpoolTakenError
from gixi_bluesky.tiled_adapters.store.spool_folder import spool_files

__all__ = ["send_abandoned", "send_leftovers"]

_log = get_logger()


def send_leftovers(directory: Path, new_store: NewStore, closing: threading.Event) -> None:
    """Send what earlier processes left below a results directory, until that is done or `closing`.

    A run without its stop stays unfinished in Tiled and can be resumed.
    """
    left, retry = spool_files(directory), Backoff()
    while left and not closing.is_set():
        for path in list(left):
            try:
                if path.exists():
                    _send_leftover(path, new_store)
                left.remove(path)
            except (RuntimeError, DocumentError, OSError) as error:  # a closed client raises it too
                _log.warning("spool_not_sent", path=str(path), error=str(error))
        if left:
            closing.wait(retry.failed())


def send_abandoned(directory: Path, new_store: NewStore) -> None:
    """Send, once, what processes that are gone left below a directory that many write to."""
    for path in spool_files(directory):
        try:
            _send_leftover(path, new_store)
        except (SpoolTakenError, ClaimLostError):
            continue  # its writer lives, or its run has another one now
        except (RuntimeError, DocumentError, OSError) as error:
            _log.warning("spool_not_sent", path=str(path), error=str(error))


def _send_leftover(path: Path, new_store: NewStore) -> None:
    """Send one spool and remove it; one that holds nothing that can be sent is set aside."""
    spool = SpoolFile(path)
    try:
        start = spool.start
        if start is None:
            _put_away_unreadable(spool)
            return
        delivery = Delivery(spool, start, new_store)
        complete = False
        try:
            with contextlib.closing(delivery):
                delivery.advance()
        except RunCompleteError:
            complete = True
    except (RuntimeError, DocumentError, OSError):
        spool.close()
        raise
    except Exception as error:
        _log.exception("spool_refused", path=str(path))
        spool.set_aside(f"its documents cannot be sent: {error!r}")
        return
    _log.info(
        "spool_in_tiled_already" if complete else "spool_sent",
        path=str(path),
        uid=start.get("uid"),
        documents_sent=delivery.sent,
        records_lost=spool.lost_records,
        bytes_lost=spool.lost_bytes,
    )
    spool.remove()


def _put_away_unreadable(spool: SpoolFile) -> None:
    if spool.size or spool.damaged:
        spool.set_aside("no start document can be read in it")
    else:
        spool.remove()

"""What a writer process of the kill tests does: one derived run in small flushes."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from pathlib import Path

from tiled.client import from_uri
from tiled_servers import RunWriting, batches, start_document

from gixi_bluesky.errors import GixiError, RunCompleteError


def write_run(
    say: Connection, uri: str, key: str, folder: Path, uid: str, frames: int, session_s: float
) -> None:
    client = from_uri(uri, api_key=key)["gixi"]
    start = {**start_document(uid), "time": 1.0}
    try:
        writing = RunWriting(client, folder, start, session_s=session_s)
        say.send("open")
        missing = [frame for frame in range(frames) if frame not in writing.state.committed]
        for batch in batches(len(missing), 3):
            writing.flush([missing[k] for k in batch])
            say.send(f"frame {missing[batch[-1]] + 1}")
            time.sleep(0.1)
        writing.stop(n_frames=frames)
        say.send("stored")
    except RunCompleteError:
        say.send("stored")
    except GixiError as error:
        say.send(type(error).__name__)
    finally:
        client.context.close()

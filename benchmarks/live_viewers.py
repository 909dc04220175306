"""The cost of viewers of the live view to the analysis: films of the demo with and without them.

Films are played in turn without and with viewers by one `demo --live`, so that both kinds see the
same machine. A viewer here is what a tab is to the server: a websocket for the catalogue and each
table, and every image once. Prints seconds a frame of each film and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgpack
from websockets.asyncio.client import connect

TABLES = ("frames", "peaks", "matches", "match_peaks", "courses")
PURPOSE = "filter[eq][condition][key]=start.purpose&filter[eq][condition][value]=%22gixi%22"


class Server:
    """The demo's server as its page sees it: a cookie, and Tiled behind it."""

    def __init__(self, address: str) -> None:
        place, _, key = address.partition("#key=")
        self.base = place.partition("/gixi/")[0]
        self.http = httpx.Client(base_url=self.base, timeout=60)
        self.http.post("/gixi/session", headers={"Authorization": f"Apikey {key}"})
        cookies = "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
        self.headers = {"Cookie": cookies}

    def runs(self) -> list[dict[str, Any]]:
        """Return the derived runs, the oldest first."""
        answer = self.http.get(f"/api/v1/search/gixi?fields=metadata&{PURPOSE}")
        return [node["attributes"]["metadata"] for node in answer.json()["data"]]

    def seconds_per_frame(self, uid: str) -> float:
        """Return the mean time between the results of a run, its first ones left out."""
        path = f"/api/v1/table/full/gixi/{uid}/frames/internal?column=raw_time&column=latency"
        rows = self.http.get(path, params={"format": "application/json"}).json()
        done = sorted(a + b for a, b in zip(rows["raw_time"], rows["latency"], strict=True))
        return (done[-1] - done[2]) / (len(done) - 3)


async def subscribe(server: Server, path: str, received: list[int]) -> None:
    """Receive what a node reports until cancelled, and count its bytes."""
    address = f"{server.base.replace('http', 'ws')}/api/v1/stream/single/{path}"
    while True:
        with contextlib.suppress(Exception):
            options = {"origin": server.base, "additional_headers": server.headers}
            async with connect(f"{address}?envelope_format=msgpack", **options) as stream:
                async for message in stream:
                    received.append(len(message))
                    msgpack.unpackb(message)
        await asyncio.sleep(1)


async def fetch_images(server: Server, uid: str, received: list[int]) -> None:
    """Fetch every image of a run once, as a tab that follows the newest frame."""
    path = f"/api/v1/array/full/gixi/{uid}/images/polar_image"
    row = 0
    async with httpx.AsyncClient(base_url=server.base, headers=server.headers) as client:
        while True:
            query = f"slice={row}:{row + 1}&format=application/octet-stream"
            answer = await client.get(f"{path}?{query}", timeout=60)
            if answer.is_success and answer.content:
                received.append(len(answer.content))
                row += 1
            else:
                await asyncio.sleep(0.5)


async def view(server: Server, uid: str, viewers: int) -> tuple[int, int]:
    """Let viewers follow a run until it ends; return messages and bytes."""
    received: list[int] = []
    paths = ["gixi", *(f"gixi/{uid}/{table}/internal" for table in TABLES)]
    tasks = [
        asyncio.create_task(task)
        for _ in range(viewers)
        for task in (
            *(subscribe(server, path, received) for path in paths),
            fetch_images(server, uid, received),
        )
    ]
    while not ended(server, uid):
        await asyncio.sleep(1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return len(received), sum(received)


def ended(server: Server, uid: str) -> bool:
    """Return whether a run has its stop document."""
    return any(run["start"]["uid"] == uid and run.get("stop") for run in server.runs())


@contextlib.contextmanager
def playing(frames: int) -> Iterator[Server]:
    """Play films of the demo; yield its server."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = ["-m", "gixi_bluesky", "demo", "--live", "--frames", str(frames)]
        with log.open("wb") as stderr:
            demo = subprocess.Popen([sys.executable, *command, "--out", folder], stderr=stderr)
        try:
            while not (found := re.search(r"live view: (\S+)", log.read_text(encoding="utf-8"))):
                if demo.poll() is not None:
                    sys.exit(log.read_text(encoding="utf-8"))
                time.sleep(0.2)
            yield Server(found[1])
        finally:
            demo.send_signal(signal.SIGINT)
            try:
                demo.wait(timeout=60)
            except subprocess.TimeoutExpired:
                demo.kill()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--frames", type=int, default=30, help="of each film")
    parser.add_argument("--films", type=int, default=6, help="half of them without viewers")
    args = parser.parse_args()
    times: dict[bool, list[float]] = {False: [], True: []}
    with playing(args.frames) as server:
        for film in range(args.films):
            watched = bool(film % 2)
            while len(runs := server.runs()) <= film:
                time.sleep(0.3)
            uid = runs[film]["start"]["uid"]
            viewers = args.viewers if watched else 0
            messages, size = asyncio.run(view(server, uid, viewers))
            seconds = server.seconds_per_frame(uid)
            times[watched].append(seconds)
            note = f", {messages} messages, {size / 1e6:.0f} MB" if watched else ""
            print(f"film {film + 1}, {viewers} viewers: {seconds:.3f} s/frame{note}", flush=True)
    alone, with_viewers = (statistics.median(times[kind]) for kind in (False, True))
    print(f"medians {alone:.3f} and {with_viewers:.3f} s/frame: ratio {with_viewers / alone:.3f}")


if __name__ == "__main__":
    main()

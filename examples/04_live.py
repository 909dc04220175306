"""See peaks within a second of their frame: python 04_live.py TILED_URI [SECONDS].

The key is in TILED_API_KEY. Rows come by WebSocket, from runs that begin while this listens too.
"""

import os
import sys
import time

from bluesky_tiled_plugins.streaming import BlueskyStreamUpdate, subscribe_to_streams
from tiled.client import from_uri


def show(update: BlueskyStreamUpdate) -> None:
    for row in update.data().itertuples():
        print(f"frame {row.frame}: |q| = {row.q:.4f} 1/angstrom, I = {row.intensity:.4g}")
    sys.stdout.flush()


def main(uri: str, seconds: str = "3600") -> None:
    root = from_uri(uri, api_key=os.environ["TILED_API_KEY"])
    streams = {"peaks": ("frame", "q", "intensity")}
    # From the first record that the server still holds: rows that come while a run's
    # subscription is made would be missed otherwise.
    with subscribe_to_streams(root["gixi"], show, streams=streams, required_specs="GIXIRun"):
        print("listening", flush=True)
        time.sleep(float(seconds))
    root.context.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

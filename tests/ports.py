"""Ports of 127.0.0.1 on which servers of the tests listen."""

from __future__ import annotations

import random
import socket

# Below those that the kernel gives to clients: one that asks for a killed server could get its
# port, and then the server could not start again.
_PORTS = range(20_000, 32_000)
_given: set[int] = set()
_chance = random.SystemRandom()


def free_port() -> int:
    """Return a port that nothing listens on and that was not returned before."""
    while True:
        port = _chance.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port

"""Ports for servers that are measured."""

from __future__ import annotations

import socket

from torchscript_bundle.server import Ports


def free_ports() -> Ports:
    """Ports that nothing listens on now."""
    sockets = [socket.socket() for _ in range(5)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    numbers = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return Ports(*numbers)

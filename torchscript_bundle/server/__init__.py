"""Start, wait for, stop and query a TorchServe of one's own."""

from __future__ import annotations

from torchscript_bundle.server.archives import Demands
from torchscript_bundle.server.client import DIRECT, Answer
from torchscript_bundle.server.launching import BASE_PROPERTIES, LOG_CONFIG, ROOT
from torchscript_bundle.server.state import NotRunningError, Ports, ServerError
from torchscript_bundle.server.supervisor import Server

__all__ = [
    "BASE_PROPERTIES",
    "DIRECT",
    "LOG_CONFIG",
    "ROOT",
    "Answer",
    "Demands",
    "NotRunningError",
    "Ports",
    "Server",
    "ServerError",
]

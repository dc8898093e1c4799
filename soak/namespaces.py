"""Network namespaces of the rehearsal's own: a balancer, and replicas that are each one cable away.

The clients and the balancer are in one namespace; each replica in one of its own, at 10.213.N.2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from soak.servers import NotServed

BALANCER = "soak-balancer"
CABLE = "eth0"


def replica(number: int) -> str:
    """Return the namespace of a replica, counted from 1."""
    return f"soak-replica-{number}"


def address(number: int) -> str:
    """Return the address of a replica, as the balancer reaches it."""
    return f"10.213.{number}.2"


def inside(namespace: str) -> tuple[str, ...]:
    """Return what comes before a command to run it in a namespace."""
    return ("ip", "netns", "exec", namespace)


@contextmanager
def network(replicas: int) -> Iterator[None]:
    """Make the namespaces and their cables; remove them in the end."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise NotServed("the rehearsal makes network namespaces: run it as root, with iproute2")
    names = [BALANCER, *map(replica, range(1, replicas + 1))]
    left = [name for name in names if name in _ip("netns", "list")]
    if left:
        raise NotServed(
            f"{left[0]} is there, from a rehearsal that runs or was killed; if none runs: "
            f"`ip netns delete {left[0]}`"
        )
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        for number in range(1, replicas + 1):
            _connect(number)
        yield
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def unplug(number: int) -> None:
    """Cut a replica off, as a pulled cable does."""
    _ip("-n", replica(number), "link", "set", CABLE, "down")


def plug_in(number: int) -> None:
    """Connect it again."""
    _ip("-n", replica(number), "link", "set", CABLE, "up")


def _connect(number: int) -> None:
    near, far = f"cable{number}", replica(number)
    ends = ("type", "veth", "peer", "name", CABLE, "netns", far)
    _ip("link", "add", near, "netns", BALANCER, *ends)
    for name, device, host in ((BALANCER, near, 1), (far, CABLE, 2)):
        _ip("-n", name, "addr", "add", f"10.213.{number}.{host}/24", "dev", device)
        _ip("-n", name, "link", "set", device, "up")


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotServed(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout

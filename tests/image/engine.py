"""Podman with a store of its own, and containers without rights or a network."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Program -> Debian's package of it.
PROGRAMS = {"podman": "podman", "runc": "runc", "mmdebstrap": "mmdebstrap", "nsenter": "util-linux"}
CLIENT = Path(__file__).with_name("client.py")
KEY = "a key of the image's test"
#: Neither the image's own user nor one of this machine's.
USER = 23456
STATE = "/var/lib/torchscript-bundle"
#: A machine that makes an image beside it is slow.
READY_SECONDS = 180
#: Characters of what a failed command said.
MOST_SHOWN = 8000


def missing() -> str:
    """Return what this machine lacks for these tests, in a sentence; empty for nothing."""
    if os.geteuid() != 0:
        return "only root can build and run images here"
    packages = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    return f"install {' '.join(packages)} (apt-get install)" if packages else ""


class Engine:
    """Podman, whose images and containers are all in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Podman's own defaults are more than a process may ask for where it has no right to.
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        ulimits = [f"nofile={files}:{files}", "nproc=4096:4096"]
        (folder / "containers.conf").write_text(
            f"[containers]\ndefault_ulimits = {json.dumps(ulimits)}\n"
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n'
        )
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\n'
            f'graphroot = "{folder}/store"\nrunroot = "{folder}/run"\n'
        )
        self.environment = {
            **os.environ,
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        }

    def run(self, *command: str, **settings: str) -> str:
        """Return what a command prints; what it says of its failure is shown."""
        done = subprocess.run(
            command, env={**self.environment, **settings}, capture_output=True, text=True
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{' '.join(command)}\n{said[-MOST_SHOWN:]}"
        return done.stdout.strip()

    def inspect(self, image: str) -> dict[str, Any]:
        """Return all that is known of an image."""
        return dict(json.loads(self.run("podman", "image", "inspect", image))[0])

    def clear(self) -> None:
        """Remove every container and image, and the store."""
        self.run("podman", "rm", "--all", "--force", "--time", "0", "--volumes")
        self.run("podman", "rmi", "--all", "--force")
        shutil.rmtree(self.folder)


class Container:
    """A running image: read-only, no capabilities, no network but loopback."""

    def __init__(self, engine: Engine, image: str, *flags: str) -> None:
        self.engine = engine
        self.healthcheck = engine.inspect(image)["Healthcheck"]["Test"][1:]
        command = ["podman", "run", "--detach", "--read-only", "--read-only-tmpfs=false"]
        command += ["--cap-drop=all", "--security-opt=no-new-privileges", "--network=none"]
        keys = json.dumps([{"name": "test", "key": KEY, "scope": "inference"}])
        command += ["--env", f"TORCHSCRIPT_BUNDLE_KEYS={keys}"]
        self.id = engine.run(*command, *flags, image)

    @property
    def processes(self) -> list[Path]:
        """Folders in /proc of its processes, the first of them first."""
        listed = self.engine.run("podman", "top", self.id, "hpid").splitlines()[1:]
        return [Path("/proc") / pid for pid in sorted(listed, key=int)]

    def client(self, *arguments: str) -> subprocess.Popen[str]:
        """Start client.py in the container's network."""
        network = f"--net={self.processes[0]}/ns/net"
        command = ["nsenter", network, sys.executable, str(CLIENT), *arguments]
        return subprocess.Popen(
            command, env={**os.environ, "KEY": KEY}, stdout=subprocess.PIPE, text=True
        )

    def ask(self, port: int, path: str, *body: str) -> tuple[int, str]:
        """Return the status and the answer to a request."""
        said, _ = self.client("ask", f"http://127.0.0.1:{port}{path}", *body).communicate()
        status, answer = json.loads(said)
        return status, answer

    def wait_ready(self) -> None:
        """Wait until every model has answered."""
        deadline = time.monotonic() + READY_SECONDS
        while self.execute(self.healthcheck) or self.ask(8090, "/ready")[0] != 200:
            assert time.monotonic() < deadline, self.log()
            assert self.state()["Running"], self.log()
            time.sleep(1)

    def execute(self, command: Sequence[str]) -> int:
        """Run a command inside; return its exit status."""
        inside = ["podman", "exec", self.id, *command]
        done = subprocess.run(inside, env=self.engine.environment, capture_output=True)
        return done.returncode

    def state(self) -> dict[str, Any]:
        """Return whether it runs, and its exit status."""
        return dict(json.loads(self.engine.run("podman", "inspect", self.id))[0]["State"])

    def log(self) -> str:
        """Return what it printed."""
        return self.engine.run("sh", "-c", f"podman logs {self.id} 2>&1")

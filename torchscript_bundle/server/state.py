"""The state that a start leaves in the run directory for later commands."""

from __future__ import annotations

import json
import socket as sockets
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from torchscript_bundle.server import processes
from torchscript_bundle.server.advice import command, port_setting

#: Files of a run directory, the working directory of a TorchServe: what `start` notes, TorchServe's
#: settings, and the keys that it writes.
STATE, SETTINGS, KEYS = "state.json", "config.properties", "key_file.json"
#: Among the temporary files of a server, the folder of unpacked archives.
STORE = "store"


class ServerError(Exception):
    """TorchServe did not do what was asked; the message quotes it and says what to do."""


class NotRunningError(ServerError):
    """No TorchServe of this run directory is alive."""


@dataclass(frozen=True)
class Ports:
    """TCP ports on the loopback interface."""

    inference: int = 8080
    management: int = 8081
    metrics: int = 8082
    grpc_inference: int = 7070
    grpc_management: int = 7071

    def check_free(self, own: Collection[int] = ()) -> None:
        """Refuse ports that are impossible, given twice, or in use.

        `own` are ports of a server that will be stopped first.
        """
        numbers = asdict(self)
        if len(set(numbers.values())) < len(numbers):
            raise ServerError(f"the ports must differ, they are {numbers}")
        for name, port in numbers.items():
            another = port_setting(name)
            if not 0 < port < 65536:
                raise ServerError(f"{port} is no port; {another} from 1 to 65535")
            if port not in own and answers(port):
                raise ServerError(
                    f"port {port} is in use{processes.listener(port)}; stop what listens there "
                    f"or {another}"
                )


def answers(port: int) -> bool:
    """Return whether something listens on a port of this machine."""
    with sockets.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class State:
    """The plan that a server was started by.

    `socket` is where requests are taken, if not on the inference port. `temp` has TorchServe's
    temporary files, with the unpacked archive in `store`; `log_start` is the size of the workers'
    log before the start (bytes).
    """

    model: str
    ports: Ports
    temp: Path
    python: str
    java_home: Path
    workers: int
    threads: int
    cores: int
    optimize_for: str
    batch_size: int
    max_batch_delay: int
    socket: Path | None = None
    log_start: int = 0

    @property
    def model_store(self) -> Path:
        """The folder that TorchServe takes unpacked archives from."""
        return self.temp / STORE

    @property
    def store(self) -> Path:
        """The folder of the unpacked archive."""
        return self.model_store / self.model

    def in_words(self) -> str:
        """Describe the workers, threads and batches."""
        return (
            f"{self.workers} worker(s) with {self.threads} thread(s) each on {self.cores} core(s), "
            f"for {self.optimize_for}: up to {self.batch_size} requests a call, which wait "
            f"{self.max_batch_delay} ms"
        )


def save_state(state: State, run_dir: Path) -> None:
    """Write the state, whole or not at all."""
    fresh = run_dir / f"{STATE}.new"
    try:
        fresh.write_text(json.dumps(asdict(state), indent=2, default=str))
        fresh.replace(run_dir / STATE)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def load_state(run_dir: Path) -> State:
    """Read the state; NotRunningError if there is none, ServerError if it is damaged."""
    path = run_dir / STATE
    try:
        raw = json.loads(path.read_text())
        known = {field.name: raw[field.name] for field in fields(State)}
        named = ("temp", "java_home", "socket")
        places = {name: Path(known[name]) for name in named if known[name] is not None}
        return State(**{**known, **places, "ports": Ports(**known["ports"])})
    except FileNotFoundError as error:
        raise NotRunningError(f"nothing is served; {command('serve')} starts the server") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ServerError(
            f"{path} is damaged; {command('stop')} clears it away, and ends a TorchServe that "
            "still runs"
        ) from error

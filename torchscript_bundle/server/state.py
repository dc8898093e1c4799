"""What a start leaves in the run directory for later commands: the state and the keys."""

from __future__ import annotations

import json
import socket
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from torchscript_bundle.server import processes


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
        """Refuse ports that cannot be used.

        Args:
            own: ports of a server that will be stopped first.

        Raises:
            ServerError: a port is impossible, given twice, or in use.
        """
        numbers = asdict(self)
        if len(set(numbers.values())) < len(numbers):
            raise ServerError(f"the ports must differ, they are {numbers}")
        for name, port in numbers.items():
            variable = "PORT" if name == "inference" else f"{name.upper()}_PORT"
            if not 0 < port < 65536:
                raise ServerError(f"{port} is no port; set {variable}=... from 1 to 65535")
            if port not in own and answers(port):
                raise ServerError(
                    f"port {port} is in use{processes.listener(port)}; stop what listens there "
                    f"or set {variable}=..."
                )


def answers(port: int) -> bool:
    """Return whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class State:
    """The plan that a server was started by.

    Attributes:
        temp: TorchServe's temporary files, with the unpacked archive in `store`.
        log_start: bytes that the log of the workers had before the start.
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
    log_start: int = 0

    @property
    def model_store(self) -> Path:
        """The folder that TorchServe takes unpacked archives from."""
        return self.temp / "store"

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


class RunDirectory:
    """The working directory of a TorchServe, where it writes its keys beside our files."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.settings = self.path / "config.properties"
        self._state = self.path / "state.json"
        self._keys = self.path / "key_file.json"

    def save(self, state: State) -> None:
        """Write the state, whole or not at all."""
        fresh = self._state.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(asdict(state), indent=2, default=str))
            fresh.replace(self._state)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise

    def load(self) -> State:
        """Read the state.

        Raises:
            NotRunningError: there is none.
            ServerError: it is damaged.
        """
        try:
            raw = json.loads(self._state.read_text())
            known = {field.name: raw[field.name] for field in fields(State)}
            places = {name: Path(known[name]) for name in ("temp", "java_home")}
            return State(**{**known, **places, "ports": Ports(**known["ports"])})
        except FileNotFoundError as error:
            raise NotRunningError("nothing is served; `make serve` starts the server") from error
        except (ValueError, TypeError, KeyError) as error:
            raise ServerError(
                f"{self._state} is damaged; `make stop` clears it away, and ends a TorchServe "
                "that still runs"
            ) from error

    @property
    def started(self) -> bool:
        """Whether a server was started here and not stopped since."""
        return self._state.is_file()

    def temp(self) -> Path | None:
        """Return the folder of temporary files, if the state is there and whole."""
        try:
            return self.load().temp
        except ServerError:
            return None

    def key(self, kind: str) -> str:
        """Return the `inference`, `management` or `API` key.

        Raises:
            ServerError: TorchServe has not written its keys: it is not running.
        """
        try:
            return str(json.loads(self._keys.read_text())[kind]["key"])
        except FileNotFoundError as error:
            raise ServerError(
                f"{self._keys} is not there: nothing is served; `make serve`"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ServerError(f"{self._keys} is damaged; `make serve` makes new keys") from error

    def clear(self) -> None:
        """Remove the state and the keys."""
        self._keys.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)

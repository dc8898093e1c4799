"""`python -m torchscript_bundle start | predict | status | token | stop | proof`."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

from torchscript_bundle.export.errors import ExportError, print_error
from torchscript_bundle.server import ROOT, NotRunningError, Ports, Server, ServerError
from torchscript_bundle.server.archives import ArchiveError, content_type, read_samples
from torchscript_bundle.server.health import check
from torchscript_bundle.serving.errors import ArtifactError

#: Characters of an answer that are printed.
SHOWN = 400
TOKEN_MINUTES = "token_expiration_min"
#: TorchServe's own default.
TORCHSERVES_MINUTES = 60.0
#: Exit status where nothing is served, that of init scripts' `status`
#: (https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/iniscrptact.html).
NOT_RUNNING = 3


def main() -> int:
    """Run one command; return the exit status."""
    arguments = _parser().parse_args()
    server = Server(arguments.run_dir, arguments.log_dir)
    commands = {
        "start": _start,
        "predict": _predict,
        "status": _status,
        "token": _token,
        "stop": _stop,
        "proof": _proof,
    }
    try:
        commands[arguments.command](server, arguments)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except NotRunningError as error:
        print_error(error)
        return NOT_RUNNING
    except (ServerError, ArchiveError, ExportError, ArtifactError, OSError) as error:
        print_error(error)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="torchscript_bundle", description=__doc__)
    parser.add_argument("--run-dir", type=Path, default=ROOT / ".server", help="keys and state")
    parser.add_argument("--log-dir", type=Path, default=ROOT / "logs")
    parser.add_argument("--model-store", type=Path, default=ROOT / "model_store")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="serve an archive; return when it has answered")
    start.add_argument("--restart", action="store_true", help="stop a server that is running")
    start.add_argument("--workers", type=_at_least_one, help="default: one per GPU, or as planned")
    start.add_argument("--timeout", type=float, default=120.0, help="seconds")
    for name, default in vars(Ports()).items():
        start.add_argument(f"--{name.replace('_', '-')}-port", type=int, default=default)
    predict = commands.add_parser("predict", help="send texts; print each with its answer")
    predict.add_argument("text", nargs="*", help="default: the samples of the artifacts folder")
    for command in (start, predict):
        command.add_argument("--config", type=Path, default=Path("setup_config.json"))
    status = commands.add_parser("status", help="send a sample; print what was seen")
    status.add_argument("--timeout", type=float, default=10.0, help="seconds for the answer")
    commands.add_parser("token", help="print the key that clients send")
    commands.add_parser("stop", help="stop the server")
    proof = commands.add_parser("proof", help="print what was compared when a model was exported")
    proof.add_argument("--artifact", type=Path, default=Path("Transformer_model"))
    return parser


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _start(server: Server, arguments: argparse.Namespace) -> None:
    ports = Ports(**{name: getattr(arguments, f"{name}_port") for name in vars(Ports())})
    archive = _archive(arguments)
    sample = read_samples(archive)[0]
    with server.starting():
        _say(f"{'restart' if server.running else 'start'} TorchServe with {archive.name}")
        server.start(archive, ports, workers=arguments.workers, restart=arguments.restart)
        try:
            kind = content_type(sample)
            answer = server.wait_ready(sample.encode(), arguments.timeout, _say, content_type=kind)
            server.warm_up(sample.encode(), content_type=kind)
        except BaseException:
            server.stop()
            raise
    print(f"serving at {server.address}")
    print(f"  {server.state.in_words()}")
    print(f"  logs in {server.log_dir}")
    print(f"  keys are valid until {_expiry(server)}; `make token` prints the one clients send")
    print(f"  a sample got {_short(answer.body)}")


def _predict(server: Server, arguments: argparse.Namespace) -> None:
    archive = _archive(arguments)
    if server.model != archive.stem:
        raise ServerError(
            f"{server.model} is served, {arguments.config} is of {archive.stem}; "
            "`make serve` with that CONFIG first"
        )
    for text in arguments.text or read_samples(archive):
        answer = server.predict(text.encode("utf-8"), content_type=content_type(text))
        print(json.dumps(text, ensure_ascii=False))
        print(f"  {_short(answer.body)}")
        if answer.status != 200:
            raise ServerError(f"the server answered with status {answer.status}")


def _archive(arguments: argparse.Namespace) -> Path:
    # Only the commands that read a config need it, and no other should wait for it.
    from torchscript_bundle.export.config import load_config

    return Path(arguments.model_store) / f"{load_config(arguments.config).served_name}.mar"


def _short(body: bytes) -> str:
    """Shorten an answer for the screen, which a vector would fill."""
    text = body.decode("utf-8")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"


def _status(server: Server, arguments: argparse.Namespace) -> None:
    health = check(server, arguments.timeout)
    print(f"serving at {server.address}")
    print(f"  {server.state.in_words()}")
    print(f"  a sample was answered in {health.seconds * 1000:.0f} ms")
    if health.workers != health.planned:
        print(f"  {health.workers} worker(s) are ready, {health.planned} were started")


def _token(server: Server, _: argparse.Namespace) -> None:
    print(server.token("inference"))


def _stop(server: Server, _: argparse.Namespace) -> None:
    print("stopped" if server.stop() else "nothing was running")


def _proof(_: Server, arguments: argparse.Namespace) -> None:
    # No other command needs rich, nor should it wait for it.
    from rich.console import Console

    from torchscript_bundle.export.proof_table import print_proof

    print_proof(arguments.artifact, Console())


def _expiry(server: Server) -> str:
    minutes = float(server.properties().get(TOKEN_MINUTES, TORCHSERVES_MINUTES))
    return f"{datetime.now().astimezone() + timedelta(minutes=minutes):%Y-%m-%d %H:%M}"


def _say(message: str) -> None:
    print(f"  ... {message}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

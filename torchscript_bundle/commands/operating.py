"""Subcommands that run a server and talk to it: serve, start, predict, status, token, stop."""

from __future__ import annotations

import argparse
import json
from datetime import datetime, timedelta
from pathlib import Path

from torchscript_bundle.commands.building import make_archive
from torchscript_bundle.commands.command import (
    FOLDERS,
    add_artifact,
    add_config,
    add_demands,
    add_folders,
    at_least_one,
    read_demands,
)
from torchscript_bundle.commands.supervising import read_archives
from torchscript_bundle.server import Ports, Server, ServerError
from torchscript_bundle.server.advice import command
from torchscript_bundle.server.archives import content_type, read_unpacked_samples
from torchscript_bundle.server.health import check
from torchscript_bundle.supervisor.background import Background
from torchscript_bundle.supervisor.front import find_nginx
from torchscript_bundle.supervisor.record import find, unpacked

#: Characters of an answer that are printed.
SHOWN = 400
TOKEN_MINUTES = "token_expiration_min"
#: TorchServe's own default.
TORCHSERVES_MINUTES = 60.0


def add_run_folder(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says which server is meant."""
    add_folders(parser, "--run-dir", "--log-dir")


def add_serve_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `serve`."""
    what = "the archives (.mar); default: the one that the config names, in the model store"
    parser.add_argument("archive", nargs="*", type=Path, metavar="FILE", help=what)
    add_artifact(parser)
    what = "start TorchServe without nginx before it, with its gRPC and its management API"
    parser.add_argument("--alone", action="store_true", help=what)
    _add_launch_flags(parser)


def add_start_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `start`."""
    what = "the archive (.mar); default: the one that the config names, in the model store"
    parser.add_argument("archive", nargs="?", type=Path, metavar="FILE", help=what)
    parser.add_argument("--restart", action="store_true", help="stop a server that is running")
    _add_launch_flags(parser)


def _add_launch_flags(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_folders(parser, *FOLDERS)
    add_demands(parser)
    what = "default: one per GPU, or what the config is optimized for"
    parser.add_argument("--workers", type=at_least_one, metavar="N", help=what)
    _add_timeout(parser, 120.0, "until a sample must be answered")
    for name, default in vars(Ports()).items():
        flag = f"--{name.replace('_', '-')}-port"
        what = f"default: {default}"
        parser.add_argument(flag, type=int, default=default, metavar="PORT", help=what)


def _add_timeout(parser: argparse.ArgumentParser, default: float, what: str) -> None:
    what = f"seconds {what} (default: {default:g})"
    parser.add_argument("--timeout", type=float, default=default, metavar="SECONDS", help=what)


def run_serve(arguments: argparse.Namespace) -> None:
    """Serve archives, by default the config's, which is made first if need be."""
    own = (arguments.config, arguments.artifact, arguments.model_store)
    archives = read_archives(arguments.archive or [make_archive(*own)])
    alone = arguments.alone
    if not alone and find_nginx() is None:
        alone = True
        print(
            "nginx is not installed, so TorchServe is started alone: a restart, or an end, loses "
            f"the requests that it has ({command('front')} installs nginx)"
        )
    if not alone:
        _serve_behind_front(arguments, archives)
    elif len(archives) == 1:
        _launch(arguments, archives[0], restart=True)
    else:
        raise ServerError("TorchServe alone serves one archive; name one")


def _serve_behind_front(arguments: argparse.Namespace, archives: list[Path]) -> None:
    """Start a supervisor in the background, or let the one that runs serve the archives."""
    server = _server(arguments)
    demands = read_demands(arguments)
    flags = [
        *("--port", str(arguments.inference_port), "--admin-port", str(arguments.metrics_port)),
        *("--unready-seconds", "0"),
        *(("--workers", str(arguments.workers)) if arguments.workers else ()),
        *(word for each in sorted(demands.sha256) for word in ("--sha256", each)),
        *(("--signed-by", str(demands.signed_by.resolve())) if demands.signed_by else ()),
    ]
    background = Background(server.run_dir, server.log_dir, flags)
    names = ", ".join(each.name for each in archives)
    with server.starting():
        if server.running:
            server.stop()
        _say(f"{'load' if find(server.run_dir) else 'start a server of'} {names}")
        running = background.serve(archives, arguments.timeout, _say)
    print(f"serving {', '.join(unpacked(server.run_dir))} at {running.url}/predictions/")
    print(f"  probes and metrics at {running.admin}, logs in {server.log_dir}")
    print(f"  {command('token')} prints the key that clients send")


def run_start(arguments: argparse.Namespace) -> None:
    """Start the server with an archive that is there."""
    archive = arguments.archive or arguments.model_store / f"{_name(arguments.config)}.mar"
    _launch(arguments, archive, restart=arguments.restart)


def _launch(arguments: argparse.Namespace, archive: Path, *, restart: bool) -> None:
    """Start the server, and return when it has answered a sample of its archive."""
    server = _server(arguments)
    ports = Ports(**{name: getattr(arguments, f"{name}_port") for name in vars(Ports())})
    demands = read_demands(arguments)
    with server.starting():
        _say(f"{'restart' if server.running else 'start'} TorchServe with {archive.name}")
        server.start(archive, ports, workers=arguments.workers, restart=restart, demands=demands)
        try:
            sample = read_unpacked_samples(server.state.store)[0]
            kind = content_type(sample)
            answer = server.wait_ready(sample.encode(), arguments.timeout, _say, content_type=kind)
            server.warm_up(sample.encode(), content_type=kind)
        except BaseException:
            server.stop()
            raise
    print(f"serving at {server.address}")
    print(f"  {server.state.in_words()}")
    print(f"  logs in {server.log_dir}")
    prints = f"{command('token')} prints the one clients send"
    print(f"  keys are valid until {_expiry(server)}; {prints}")
    print(f"  a sample got {_short(answer.body)}")


def add_predict_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `predict`."""
    parser.add_argument("text", nargs="*", help="default: the samples of the archive")
    what = "refuse to ask a server that serves another config's model"
    parser.add_argument("--config", type=Path, metavar="FILE", help=what)
    add_run_folder(parser)


def run_predict(arguments: argparse.Namespace) -> None:
    """Send texts to the server, and print each with its answer."""
    name = _name(arguments.config) if arguments.config else ""
    supervisor = find(arguments.run_dir)
    server = _server(arguments)
    stores = unpacked(server.run_dir) if supervisor else {server.model: server.state.store}
    served = ", ".join(sorted(stores))
    if not name and len(stores) > 1:
        raise ServerError(f"{served} are served; name the config of one with --config")
    name = name or next(iter(stores), "")
    if name not in stores:
        raise ServerError(
            f"{served or 'nothing'} is served, {arguments.config} is of {name}; "
            f"{command('serve')} with that config first"
        )
    for text in arguments.text or read_unpacked_samples(stores[name]):
        body, kind = text.encode("utf-8"), content_type(text)
        if supervisor:
            answer = supervisor.predict(name, body, content_type=kind)
        else:
            answer = server.predict(body, content_type=kind)
        print(json.dumps(text, ensure_ascii=False))
        print(f"  {_short(answer.body)}")
        if answer.status != 200:
            raise ServerError(f"the server answered with status {answer.status}")


def add_status_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `status`."""
    _add_timeout(parser, 10.0, "for the answer")
    add_run_folder(parser)


def run_status(arguments: argparse.Namespace) -> None:
    """Ask the server for an answer, and print what was seen."""
    if supervisor := find(arguments.run_dir):
        seconds = supervisor.readiness(arguments.timeout)
        print(f"serving at {supervisor.url} (process {supervisor.pid})")
        print(f"  every model answers, as {supervisor.admin}/ready said in {1000 * seconds:.0f} ms")
        return
    server = _server(arguments)
    health = check(server, arguments.timeout)
    print(f"serving at {server.address}")
    print(f"  {server.state.in_words()}")
    print(f"  a sample was answered in {health.seconds * 1000:.0f} ms")
    if health.workers != health.planned:
        print(f"  {health.workers} worker(s) are ready, {health.planned} were started")


def run_token(arguments: argparse.Namespace) -> None:
    """Print the key that clients send."""
    supervisor = find(arguments.run_dir)
    print(supervisor.token() if supervisor else _server(arguments).token("inference"))


def run_stop(arguments: argparse.Namespace) -> None:
    """Stop the server; one of `run` answers what it has first."""
    if supervisor := find(arguments.run_dir):
        supervisor.stop()
        print("stopped")
        return
    print("stopped" if _server(arguments).stop() else "nothing was running")


def _server(arguments: argparse.Namespace) -> Server:
    return Server(arguments.run_dir, arguments.log_dir)


def _name(config: Path) -> str:
    """Return the name that a config's model is served by."""
    # Only the commands that read a config need it, and no other should wait for it.
    from torchscript_bundle.export.config import load_config

    return load_config(config).served_name


def _short(body: bytes) -> str:
    """Shorten an answer for the screen, which a vector would fill."""
    text = body.decode("utf-8")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"


def _expiry(server: Server) -> str:
    minutes = float(server.properties().get(TOKEN_MINUTES, TORCHSERVES_MINUTES))
    return f"{datetime.now().astimezone() + timedelta(minutes=minutes):%Y-%m-%d %H:%M}"


def _say(message: str) -> None:
    print(f"  ... {message}", flush=True)

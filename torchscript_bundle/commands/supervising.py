"""The subcommand that runs models in production: one front, many models, until a signal."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from torchscript_bundle.commands.command import add_demands, add_folders, at_least_one, read_demands
from torchscript_bundle.server import ServerError
from torchscript_bundle.server.advice import command


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `run`."""
    add = parser.add_argument
    add("archive", nargs="*", type=Path, metavar="FILE", help="archives (.mar) to serve")
    add("--models", type=Path, metavar="DIR", help="serve all archives of a folder")
    add("--watch", action="store_true", help="look for changed archives by itself, not at SIGHUP")
    add("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine alone")
    add("--port", type=int, default=8080, help="where clients send requests (default: 8080)")
    add("--admin-host", default="127.0.0.1", metavar="HOST", help="default: 127.0.0.1")
    what = "/live, /ready, /startup and /metrics, without a key (default: 8090)"
    add("--admin-port", type=int, default=8090, metavar="PORT", help=what)
    keys = parser.add_mutually_exclusive_group()
    what = "keys of clients; default: $TORCHSCRIPT_BUNDLE_KEYS, or one made in the run directory"
    keys.add_argument("--keys", type=Path, metavar="FILE", help=what)
    what = "take requests of anyone, where an ingress asks for keys"
    keys.add_argument("--no-keys", action="store_true", help=what)
    add("--certificate", type=Path, metavar="FILE", help="PEM of the certificates for TLS")
    add("--certificate-key", type=Path, metavar="FILE", help="PEM of its private key")
    what = "a model; default: one per GPU, or what its config is optimized for"
    add("--workers", type=at_least_one, metavar="N", help=what)
    what = "how long load balancers may take to notice that it ends (default: 5)"
    add("--unready-seconds", type=float, default=5.0, metavar="SECONDS", help=what)
    what = "how long requests may take to be answered then (default: 60)"
    add("--drain-seconds", type=float, default=60.0, metavar="SECONDS", help=what)
    add_demands(parser)
    add_folders(parser, "--run-dir", "--log-dir")


def run_run(arguments: argparse.Namespace) -> None:
    """Serve until a signal; exit with the status that says how it ended."""
    # aiohttp and prometheus_client: no other command should wait for them.
    from torchscript_bundle.serving.observing.log_lines import set_up
    from torchscript_bundle.supervisor.front import Address
    from torchscript_bundle.supervisor.models import Places
    from torchscript_bundle.supervisor.run import Settings, Supervisor

    if bool(arguments.certificate) != bool(arguments.certificate_key):
        raise ServerError("--certificate and --certificate-key belong together")
    if arguments.watch and arguments.models is None:
        raise ServerError("--watch looks at the folder that --models names")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    set_up(timed=True)
    address = Address(
        arguments.host,
        arguments.port,
        arguments.certificate and arguments.certificate.resolve(),
        arguments.certificate_key and arguments.certificate_key.resolve(),
    )
    places = Places(
        arguments.run_dir.resolve(),
        arguments.log_dir.resolve(),
        arguments.workers,
        read_demands(arguments),
    )
    settings = Settings(
        archives=lambda: read_archives(arguments.archive, arguments.models),
        address=address,
        admin_host=arguments.admin_host,
        admin_port=arguments.admin_port,
        places=places,
        keys=arguments.keys,
        with_keys=not arguments.no_keys,
        watch=arguments.watch,
        unready_seconds=arguments.unready_seconds,
        drain_seconds=arguments.drain_seconds,
        arguments=sys.argv[1:],
    )
    sys.exit(asyncio.run(Supervisor(settings).run()))


def read_archives(named: Iterable[Path], folder: Path | None = None) -> list[Path]:
    """Return the archives to serve; ServerError if one is missing, or two have one name."""
    found = [*named, *(sorted(folder.glob("*.mar")) if folder else [])]
    if not found:
        raise ServerError(
            f"no archive: name one, or a folder of them with --models; {command('archive')} makes "
            "one"
        )
    for each in found:
        if not each.is_file():
            raise ServerError(f"{each} is not there; {command('archive')} makes it")
    names = [each.stem for each in found]
    if len(set(names)) < len(names):
        raise ServerError(f"two archives have one name: {', '.join(sorted(map(str, found)))}")
    return found

"""A subcommand, its flags, and how it is named to a user."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from torchscript_bundle.server import Demands, ServerError

#: What `--sha256` and `--signed-by` say, for containers.
SHA256_VARIABLE, SIGNERS_VARIABLE = "MODEL_SHA256", "MODEL_SIGNED_BY"
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Command:
    """A subcommand: its help in one sentence, and functions that add its flags and run it."""

    help: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


class Parser(argparse.ArgumentParser):
    """A parser that says in one sentence what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Print the sentence and exit with status 2."""
        self.exit(2, f"error: {message}; `{self.prog} --help` shows what it takes\n")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the flag of the config."""
    default = Path("setup_config.json")
    what = f"default: {default}"
    parser.add_argument("--config", type=Path, default=default, metavar="FILE", help=what)


def add_artifact(parser: argparse.ArgumentParser) -> None:
    """Add the flag of the folder that an export writes."""
    default = Path("Transformer_model")
    what = f"folder of the export (default: {default})"
    parser.add_argument("--artifact", type=Path, default=default, metavar="DIR", help=what)


#: Folders of a server: flag, default in the current folder, and what is in them.
FOLDERS = {
    "--run-dir": (Path(".server"), "keys and state of the server"),
    "--log-dir": (Path("logs"), "its logs"),
    "--model-store": (Path("model_store"), "the archives"),
}


def add_folders(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add flags of `FOLDERS` to a subcommand; a value before the subcommand's name stays."""
    for name in names:
        default, what = FOLDERS[name]
        says = f"{what} (default: {default})"
        parser.add_argument(name, type=Path, default=argparse.SUPPRESS, metavar="DIR", help=says)


def add_default_folders(parser: argparse.ArgumentParser) -> None:
    """Add all flags of `FOLDERS`, unlisted, to the parser of all subcommands, with their values."""
    for name, (default, _) in FOLDERS.items():
        parser.add_argument(name, type=Path, default=default, help=argparse.SUPPRESS)


def add_demands(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what an archive must be to be served."""
    what = f"serve no archive but one of this sha256; repeat it for several (or {SHA256_VARIABLE})"
    parser.add_argument("--sha256", action="append", metavar="DIGEST", help=what)
    what = f"serve no archive that no key in this PEM file has signed (or {SIGNERS_VARIABLE})"
    parser.add_argument("--signed-by", type=Path, metavar="FILE", help=what)


def read_demands(arguments: argparse.Namespace) -> Demands:
    """Return what an archive must be, by the flags or else by the environment.

    A variable that is there and empty is an error: it would demand nothing where somebody meant to.
    """
    for name in (SHA256_VARIABLE, SIGNERS_VARIABLE):
        if not os.environ.get(name, "set").strip():
            raise ServerError(f"{name} is empty; give it a value, or unset it to demand nothing")
    digests = arguments.sha256 or os.environ.get(SHA256_VARIABLE, "").split()
    signers = arguments.signed_by or os.environ.get(SIGNERS_VARIABLE)
    found = [each.lower().removeprefix("sha256:") for each in digests]
    for each in found:
        if not SHA256.fullmatch(each):
            raise ServerError(
                f"{each!r} is no sha256; give the 64 hexadecimal digits that `torchscript-bundle "
                "archive` and `sha256sum` print"
            )
    return Demands(frozenset(found), None if signers is None else Path(signers))


def at_least_one(text: str) -> int:
    """Read a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)

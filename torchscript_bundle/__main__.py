"""The command `torchscript-bundle`, also `python -m torchscript_bundle`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from torchscript_bundle.commands import COMMANDS
from torchscript_bundle.commands.command import Parser, add_default_folders
from torchscript_bundle.export.errors import ExportError, print_error
from torchscript_bundle.server import NotRunningError, ServerError
from torchscript_bundle.server.archives import ArchiveError
from torchscript_bundle.server.signatures import SignatureError
from torchscript_bundle.serving.errors import ArtifactError

#: Exit status where nothing is served, that of init scripts' `status`
#: (https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/iniscrptact.html).
NOT_RUNNING = 3
#: Errors whose message is for the user.
FAILURES = (ServerError, ArchiveError, SignatureError, ExportError, ArtifactError, OSError)


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    arguments = make_parser().parse_args(words)
    try:
        COMMANDS[arguments.command].run(arguments)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except NotRunningError as error:
        print_error(error)
        return NOT_RUNNING
    except FAILURES as error:
        print_error(error)
        return 1
    return 0


def make_parser() -> Parser:
    """Make the parser of all commands."""
    parser = Parser(
        prog="torchscript-bundle",
        description="Serve a Hugging Face model from TorchScript under TorchServe, proven exact.",
        epilog="`torchscript-bundle COMMAND --help` lists the flags of a command.",
    )
    add_default_folders(parser)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", title="commands"
    )
    for name, command in COMMANDS.items():
        says = f"{command.help[0].upper()}{command.help[1:]}."
        command.add_flags(commands.add_parser(name, help=command.help, description=says))
    return parser


if __name__ == "__main__":
    sys.exit(main())

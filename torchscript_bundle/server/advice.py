"""Name commands and flags as the reader of a message can type them.

In a clone of the repository that is make; where only the package is installed, its own command.
"""

from __future__ import annotations

from pathlib import Path

#: A clone has it beside the package.
MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"


def command(name: str) -> str:
    """Return a command that is a target of the Makefile as well, such as `serve`, in backquotes."""
    return f"`make {name}`" if MAKEFILE.is_file() else f"`torchscript-bundle {name}`"


def port_setting(name: str) -> str:
    """Return how another port is chosen, for a field of `Ports`."""
    if not MAKEFILE.is_file():
        return f"give --{name.replace('_', '-')}-port"
    variable = "PORT" if name == "inference" else f"{name.upper()}_PORT"
    return f"set {variable}=..."

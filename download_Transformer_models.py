"""Build time: setup_config.json -> a traced, verified artifact in Transformer_model/."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from torchscript_bundle.commands.building import export_config
from torchscript_bundle.export.errors import ExportError, print_error


def main() -> int:
    """Run the export; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="setup_config.json", type=Path)
    parser.add_argument("--output", default="Transformer_model", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    try:
        export_config(arguments.config, arguments.output)
    except ExportError as error:
        print_error(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

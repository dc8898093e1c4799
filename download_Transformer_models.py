"""Build time: setup_config.json -> a traced, verified artifact in Transformer_model/."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.errors import ExportError, print_error


def main() -> int:
    """Run the export; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", default="setup_config.json", type=Path)
    parser.add_argument("--output", default="Transformer_model", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("torchscript_bundle").setLevel(logging.INFO)
    started = time.perf_counter()
    try:
        config = load_config(arguments.config)
        # Imported late, since it takes seconds: a wrong config should be told at once.
        from torchscript_bundle.export.exporter import export

        bundle = export(config, arguments.output)
    except ExportError as error:
        print_error(error)
        return 1
    size = sum(bundle.sizes.values()) / 1e6
    seconds = time.perf_counter() - started
    print(f"{arguments.output}: {bundle.mode}, {size:.1f} MB, {seconds:.1f} s")
    print(f"proven exact: {bundle.verification['holds']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""TorchServe with a handler that does nothing: what it costs without a model."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.engines.base import Endpoint
from benchmarks.engines.torchserve import TorchServe

HANDLER = Path(__file__).resolve().with_name("floor_handler.py")
NAME = "floor"


class Floor:
    """Answers every request with the same words."""

    def start(self, folder: Path) -> Endpoint:
        """See `Engine`."""
        self._served = TorchServe(make_archive(folder))
        return self._served.start(folder)

    def stop(self) -> None:
        """See `Engine`."""
        self._served.stop()


def make_archive(folder: Path) -> Path:
    """The archive with that handler and nothing else."""
    with tempfile.TemporaryDirectory() as work:
        command = [
            *(sys.executable, "-m", "model_archiver.model_packaging", "--force"),
            *("--model-name", NAME, "--version", "1.0", "--handler", str(HANDLER)),
            *("--archive-format", "zip-store", "--export-path", str(folder)),
        ]
        environment = {"TMPDIR": work}
        subprocess.run(command, env=environment, check=True, capture_output=True)
    return folder / f"{NAME}.mar"

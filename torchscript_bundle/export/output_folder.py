"""The folder of an artifact, which is replaced as a whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torchscript_bundle.disk import writing
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.serving.artifact import BUNDLE_FILE


def check_output(output: Path) -> None:
    """Refuse to replace a folder that is not an artifact."""
    if output.exists() and not output.is_dir():
        raise ExportError(f"{output} is a file; give a folder with --output")
    if output.is_dir() and any(output.iterdir()) and not (output / BUNDLE_FILE).is_file():
        raise ExportError(
            f"{output} holds other files than an artifact's; give another folder with --output"
        )


@contextmanager
def written_whole(output: Path, needed: int) -> Iterator[Path]:
    """Give a temporary folder for about `needed` bytes, which replaces `output` on success."""
    output = output.resolve()
    remedy = "give another folder with --output"
    with writing(output.parent, remedy, ExportError, needed=needed):
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{output.name}.", dir=output.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            _replace(temporary, output)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _replace(temporary: Path, output: Path) -> None:
    """Rename `temporary` to `output`; keep an older `output` if that fails."""
    old = temporary.with_name(temporary.name + ".old")
    if output.exists():
        output.rename(old)
    try:
        temporary.rename(output)
    except OSError:
        if old.exists():
            old.rename(output)
        raise
    shutil.rmtree(old, ignore_errors=True)

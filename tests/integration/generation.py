"""An archive of a tiny writer, and requests to the server that serves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from torchscript_bundle.export.archive import HANDLER, VERSION
from torchscript_bundle.export.archive_writer import writing_archive
from torchscript_bundle.server import ROOT

MODEL = "writer"
SETTINGS = {
    "batchSize": 32,
    "maxBatchDelay": 10,
    "responseTimeout": 60,
    "startupTimeout": 120,
    "continuousBatching": True,
}


def pack_writer(artifact: Path, folder: Path) -> Path:
    """The archive of an artifact."""
    package = ROOT / "torchscript_bundle"
    sources = [package / "__init__.py", *sorted((package / "serving").rglob("*.py"))]
    manifest = {
        "createdOn": "01/01/1980 00:00:00",
        "runtime": "python",
        "model": {
            "modelName": MODEL,
            "serializedFile": "traced_model.pt",
            "handler": HANDLER.name,
            "modelVersion": VERSION,
            "configFile": "model-config.yaml",
        },
        "archiverVersion": "0.12.0",
    }
    target = folder / f"{MODEL}.mar"
    with writing_archive(target) as archive:
        archive.add("MAR-INF/MANIFEST.json", json.dumps(manifest).encode())
        archive.add("model-config.yaml", yaml.safe_dump(SETTINGS).encode())
        archive.add("samples.json", b'["Once"]')
        archive.add(HANDLER.name, HANDLER.read_bytes())
        for path in sorted(artifact.iterdir()):
            archive.add(path.name, path.read_bytes())
        for path in sources:
            archive.add(path.relative_to(ROOT).as_posix(), path.read_bytes())
    return target


def data(line: bytes | str) -> Any:
    """The value of an event's line."""
    text = line.decode() if isinstance(line, bytes) else line
    return json.loads(text.removeprefix("data:"))

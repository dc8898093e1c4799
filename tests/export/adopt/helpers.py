"""Archives in the form of the TorchServe example's, right ones and wrong ones."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

OLD = Path(__file__).resolve().parents[2] / "data" / "old_archives"
SETTINGS = {
    "model_name": "",
    "mode": "sequence_classification",
    "do_lower_case": True,
    "num_labels": "2",
    "save_mode": "torchscript",
    "max_length": "20",
    "captum_explanation": False,
}


def write_archive(
    path: Path,
    model: bytes,
    *,
    settings: dict[str, Any] | None = None,
    model_file: str = "traced_model.pt",
    extra: dict[str, bytes] | None = None,
    manifest: dict[str, Any] | None = None,
) -> Path:
    """Write an archive with a model's file and, by default, the example's config."""
    about = {"modelName": path.stem, "serializedFile": model_file, "handler": "handler.py"}
    files = {
        "MAR-INF/MANIFEST.json": json.dumps({"model": about} if manifest is None else manifest),
        model_file: model,
        "handler.py": "raise SystemExit('the handler of an old archive was run')",
        "setup_config.json": json.dumps({**SETTINGS, **(settings or {})}),
        **(extra or {}),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return path


def rewrite(path: Path, to: Path, change: dict[str, tuple[bytes, bytes]]) -> Path:
    """Copy a zip with bytes replaced in the members whose names end as the keys of `change`."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(to, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            for ending, (old, new) in change.items():
                if entry.filename.endswith(ending):
                    content = content.replace(old, new)
            target.writestr(entry.filename, content)
    return to


def saved(module: torch.nn.Module, *examples: torch.Tensor, path: Path) -> bytes:
    """Return the bytes of a module traced as the example traces."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # a test may want a constant
        torch.jit.save(torch.jit.trace(module.eval(), examples, check_trace=False), path)
    return path.read_bytes()

"""Artifact + handler + serving code -> one self-contained, reproducible `.mar`.

torch-model-archiver packs; its archive is then rewritten, because it holds the time of packing in
the manifest and in every entry.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from torchscript_bundle.disk import FULL, writing
from torchscript_bundle.export.archive_writer import writing_archive
from torchscript_bundle.export.config import SetupConfig, load_config
from torchscript_bundle.export.errors import ExportError, print_error
from torchscript_bundle.serving.artifact import (
    API_FILE,
    BUNDLE_FILE,
    CONFIG_FILE,
    MODULE_FILE,
    MOST_EXPLANATIONS,
    REFUSED_AT_ONCE,
    REMAKE,
    REQUESTS_PER_ROW,
    SAMPLES_FILE,
    Bundle,
    file_sha256,
)
from torchscript_bundle.serving.describe.openapi import describe_folder
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.sums import MANIFEST, SUMS_FILE, SUMS_KEY

ROOT = Path(__file__).resolve().parents[2]
HANDLER = ROOT / "Transformer_handler_generalized.py"
MODEL_CONFIG = "model-config.yaml"
VERSION = "1.0"
#: Copies in the model store at one time, of a file (staged, in the archiver's folder, in its
#: archive, rewritten) and of the module (not staged; rewritten without the archiver's folder).
COPIES, COPIES_OF_MODULE = 4, 2
#: Bytes that a small file takes on most disks.
BLOCK = 4096
CHUNK = 1 << 20


def pack(artifact: Path, model_store: Path, config: SetupConfig) -> Path:
    """Pack an artifact into `model_store`; the same artifact and samples give the same bytes."""
    try:
        bundle = Bundle.load(artifact)
        bundle.check_files(artifact)
        api = describe_folder(artifact, config.served_name)
    except ArtifactError as error:
        raise ExportError(str(error)) from error
    if (artifact / CONFIG_FILE).read_text(encoding="utf-8") != config.dump():
        raise ExportError(f"{artifact} was made from another config; {REMAKE}")
    target = model_store / f"{config.served_name}.mar"
    remedy = "give another folder with --model-store"
    with writing(model_store, remedy, ExportError, needed=_room(bundle)):
        model_store.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that the last step is a rename on one file system.
        with tempfile.TemporaryDirectory(prefix=f".{target.stem}.", dir=model_store) as temporary:
            staging = Path(temporary) / "staging"
            _stage(staging, artifact, bundle.files, config, api)
            module = artifact / MODULE_FILE if MODULE_FILE in bundle.files else None
            made = _run_archiver(Path(temporary), staging, module, config)
            fresh = Path(temporary) / "rewritten.mar"
            _rewrite(made, fresh)
            fresh.replace(target)
    return target


def pack_and_say(config: SetupConfig, artifact: Path, model_store: Path) -> Path:
    """Pack an artifact as `pack` does, and print the archive's path, size, time and sha256."""
    started = time.perf_counter()
    print(f"  ... pack {artifact}")
    path = pack(artifact, model_store, config)
    size = path.stat().st_size / 1e6
    print(f"{path}: {size:.1f} MB, {time.perf_counter() - started:.1f} s")
    print(f"  sha256 {file_sha256(path)}")
    return path


def model_config(config: SetupConfig) -> str:
    """Return the model's YAML for TorchServe; the server chooses the number of workers."""
    settings: dict[str, int | bool] = {
        "batchSize": config.batch_size,
        "maxBatchDelay": config.max_batch_delay,
        "responseTimeout": config.response_timeout,
        "startupTimeout": config.startup_timeout,
    }
    if config.task.generates:
        settings["continuousBatching"] = True
        # Only a worker can refuse requests: give it those that TorchServe would hold back.
        settings["batchSize"] = REQUESTS_PER_ROW * config.batch_size + REFUSED_AT_ONCE
    elif config.captum_explanation:
        settings["continuousBatching"] = True
        settings["batchSize"] = config.batch_size + MOST_EXPLANATIONS
    return yaml.safe_dump(settings)


def _run_archiver(temporary: Path, staging: Path, module: Path | None, config: SetupConfig) -> Path:
    """Run torch-model-archiver on a folder; raise OSError for lack of room, else ExportError."""
    (temporary / MODEL_CONFIG).write_text(model_config(config), encoding="utf-8")
    # The manifest of an archive with a ScriptModule names it.
    named = () if module is None else ("--serialized-file", str(module))
    command = [
        *(sys.executable, "-m", "model_archiver.model_packaging"),
        *("--model-name", config.served_name),
        *("--version", VERSION),
        *named,
        *("--handler", str(HANDLER)),
        *("--extra-files", str(staging)),
        *("--config-file", str(temporary / MODEL_CONFIG)),
        *("--archive-format", "zip-store"),
        *("--export-path", str(temporary)),
        "--force",
    ]
    # The archiver empties $TMPDIR/<model name> and works there: give it a TMPDIR of its own.
    work = temporary / "work"
    work.mkdir()
    environment = {**os.environ, "TMPDIR": str(work)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    made = temporary / f"{config.served_name}.mar"
    if done.returncode == 0 and made.is_file():
        return made
    # The archiver is another program: only its output names the error.
    for number in FULL:
        if (reason := os.strerror(number)) in done.stderr:
            raise OSError(number, reason)
    words = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
    raise ExportError(f"torch-model-archiver failed: {words[-1]}")


def _room(bundle: Bundle) -> int:
    """Return about how many bytes packing takes in the model store."""
    module = bundle.sizes.get(MODULE_FILE, 0)
    others = sum(bundle.sizes.values()) - module
    code = sum(-(-path.stat().st_size // BLOCK) * BLOCK for path in _code())
    return COPIES_OF_MODULE * module + COPIES * (others + code)


def _code() -> list[Path]:
    """Return the files of the package that a worker needs."""
    package = ROOT / "torchscript_bundle"
    return [package / "__init__.py", *(package / "serving").rglob("*.py")]


def _stage(
    staging: Path, artifact: Path, files: Sequence[str], config: SetupConfig, api: dict[str, Any]
) -> None:
    sources = {path.relative_to(ROOT): path for path in _code()}
    sources |= {Path(name): artifact / name for name in {BUNDLE_FILE, *files} - {MODULE_FILE}}
    for name, source in sorted(sources.items()):
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, staging / name)
    # A start sends the samples first, without the config's folder or its modes.
    for file, value in ((API_FILE, api), (SAMPLES_FILE, config.samples)):
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        (staging / file).write_text(text, encoding="utf-8")


def _rewrite(made: Path, fresh: Path) -> None:
    """Copy a zip with sorted entries and their digests, and without the time in its manifest."""
    with zipfile.ZipFile(made) as source, writing_archive(fresh) as target:
        for name in sorted(source.namelist()):
            if name == MANIFEST:
                manifest = json.loads(source.read(name))
                manifest |= {"createdOn": "01/01/1980 00:00:00", SUMS_KEY: SUMS_FILE}
                target.add(name, json.dumps(manifest, indent=2, sort_keys=True).encode())
                continue
            with source.open(name) as reader:
                chunks = iter(partial(reader.read, CHUNK), b"")
                target.add_chunks(name, chunks, source.getinfo(name).file_size)


def main() -> int:
    """Pack the artifact of a config: `python -m torchscript_bundle.export.archive`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="setup_config.json", type=Path)
    parser.add_argument("--artifact", default="Transformer_model", type=Path)
    parser.add_argument("--model-store", default="model_store", type=Path)
    arguments = parser.parse_args()
    try:
        pack_and_say(load_config(arguments.config), arguments.artifact, arguments.model_store)
    except (ExportError, OSError) as error:
        print_error(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

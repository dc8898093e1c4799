"""OLD.mar -> a folder with the model, its tokenizer, labels, and a config that exports it."""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedTokenizerBase

from torchscript_bundle.disk import writing
from torchscript_bundle.export.adopt.old_archive import OldArchive, open_archive
from torchscript_bundle.export.checkpoint import TOKENIZER_FILES
from torchscript_bundle.export.config.settings import SetupConfig, safe_name
from torchscript_bundle.export.config.torchserve_keys import translate
from torchscript_bundle.export.errors import ExportError, one_line
from torchscript_bundle.export.hub import SMALL_FILES, fetch
from torchscript_bundle.export.kinds.traced_folder import TraceFacts
from torchscript_bundle.export.labels import LABELS_FILE
from torchscript_bundle.serving.artifact import CONFIG_FILE, MODULE_FILE, file_sha256

logger = logging.getLogger(__name__)

MODEL_FOLDER = "model"
LABELS_FOLDER = "labels"
#: Files beside a tokenizer's vocabulary.
TOKENIZER_PARTS = (
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt"),
    "config.json",
)
WEIGHTS = {"pytorch_model.bin", "model.safetensors"}


def adopt(archive: Path, folder: Path, tokenizer: str | None = None) -> Path:
    """Read an archive of the TorchServe example into a new folder; return the config in it.

    `tokenizer` is a folder or Hub name, in place of the archive's own or the one that its config
    names. An ExportError leaves no folder.
    """
    if folder.exists():
        raise ExportError(
            f"{folder} exists; export its {CONFIG_FILE} again, or remove it, or give another "
            "--folder"
        )
    with (
        open_archive(archive) as old,
        writing(folder.parent, "give another folder with --folder", ExportError),
    ):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _fill(temporary, old, tokenizer)
            temporary.chmod(0o755)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder / CONFIG_FILE


def served_name(archive: Path) -> str:
    """Return the name under which an archive of the TorchServe example is served once adopted."""
    with open_archive(archive) as old:
        return _served_name(old)


def _fill(folder: Path, old: OldArchive, tokenizer: str | None) -> None:
    given = translate(old.settings)
    settings = given.values
    for note in (*given.notes, *_left_out(settings)):
        logger.warning("%s", note)
    model = folder / MODEL_FOLDER
    model.mkdir()
    config = {"model_name": f"./{MODEL_FOLDER}", "artifacts_dir": f"./{LABELS_FOLDER}"}
    config["archive_name"] = _served_name(old)
    config |= {key: value for key, value in settings.items() if key in _kept()}
    if settings.get("save_mode") == "pretrained":
        config |= _take_checkpoint(old, model)
    else:
        config |= _take_trace(old, model, settings)
    _take_tokenizer(old, model, tokenizer, str(settings.get("model_name", "")))
    (folder / LABELS_FOLDER).mkdir()
    if LABELS_FILE in old.files:
        old.extract(LABELS_FILE, folder / LABELS_FOLDER)
    text = json.dumps(config, indent=1, ensure_ascii=False)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def _kept() -> set[str]:
    """Return the keys that are taken over as they are."""
    ours = {"model_name", "artifacts_dir", "archive_name", "save_mode", "device", "schema_"}
    return {*SetupConfig.model_fields} - ours


def _left_out(settings: Mapping[str, Any]) -> Iterator[str]:
    known = {*SetupConfig.model_fields}
    for key in settings:
        if key not in known:
            yield f"{key} of the old config is not known here and was left out"


def _served_name(old: OldArchive) -> str:
    """Return the name that clients have in their URLs, as near as ours can be."""
    return safe_name(old.name) or safe_name(old.path.stem) or "adopted"


def _take_trace(old: OldArchive, model: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Extract the traced module; return the keys of the config that follow from it."""
    if old.model_file in WEIGHTS:
        raise ExportError(
            f"{old.path}: save_mode is {json.dumps(settings.get('save_mode'))} and the model is "
            f'{old.model_file}; correct save_mode to "pretrained" and pack it again'
        )
    try:
        length = int(settings.get("max_length", SetupConfig.model_fields["max_length"].default))
    except (TypeError, ValueError) as error:
        raise ExportError(
            f"{old.path}: max_length is {json.dumps(settings.get('max_length'))}, not a number of "
            "tokens; correct it and pack the archive again"
        ) from error
    old.extract(old.model_file, model)
    (model / old.model_file).rename(model / MODULE_FILE)
    TraceFacts(length, old.path.name, file_sha256(old.path)).dump(model)
    config: dict[str, Any] = {"save_mode": "torchscript"}
    if settings.get("captum_explanation") in (True, "true", "True"):
        logger.warning(
            "captum_explanation is set to false: a traced module gives no gradients of its "
            "embeddings; export the model from its checkpoint to explain its answers"
        )
        config["captum_explanation"] = False
    return config


def _take_checkpoint(old: OldArchive, model: Path) -> dict[str, Any]:
    """Extract weights and config of a model; return the keys of the config that follow."""
    if old.model_file not in WEIGHTS:
        raise ExportError(
            f"{old.path}: save_mode is pretrained and the model is {old.model_file}; known are "
            f"{' and '.join(sorted(WEIGHTS))}"
        )
    if "config.json" not in old.files:
        raise ExportError(f"{old.path} has no config.json of the model; pack it again with it")
    for name in (old.model_file, "config.json"):
        old.extract(name, model)
    # Workers run the trace of it: that is what a new export is for.
    return {"save_mode": "torchscript"}


def _take_tokenizer(old: OldArchive, model: Path, given: str | None, named: str) -> None:
    """Save a tokenizer into the model's folder: the given one, the archive's, or the named one."""
    with tempfile.TemporaryDirectory() as temporary:
        found = None if given else _archived_tokenizer(old, Path(temporary))
        if found is None:
            found = _named_tokenizer(given or named, from_command=given is not None)
    if found.pad_token_id is None and "gpt2" in named:
        found.pad_token = found.eos_token  # as the old handler set it
    found.save_pretrained(model)


def _archived_tokenizer(old: OldArchive, folder: Path) -> PreTrainedTokenizerBase | None:
    """Load the tokenizer whose files are in the archive; None if there are not enough of them."""
    files = sorted(old.files & {*TOKENIZER_FILES, *TOKENIZER_PARTS})
    if not old.files & {*TOKENIZER_FILES}:
        return None
    for name in files:
        old.extract(name, folder)
    try:
        return _load(folder)
    except Exception as error:  # many libraries read files here, each with errors of its own
        logger.warning("the tokenizer in the archive cannot be loaded (%s)", one_line(error))
        return None


def _named_tokenizer(name: str, *, from_command: bool) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a folder or the Hub."""
    fix = "give a folder or a Hub model with --tokenizer"
    if not name:
        raise ExportError(f"the archive has no tokenizer and its config names no model; {fix}")
    local = Path(name).expanduser()
    source = "--tokenizer" if from_command else "the old config's model_name"
    if not local.is_dir() and re.match(r"[./~]", name):
        raise ExportError(
            f"{name} ({source}) is no folder here, and the archive has no tokenizer; {fix}"
        )
    folder = local if local.is_dir() else fetch(name, None, SMALL_FILES, Path.cwd(), fix)
    try:
        return _load(folder)
    except Exception as error:  # many libraries read files here, each with errors of its own
        raise ExportError(
            f"the tokenizer of {name} ({source}) cannot be loaded ({one_line(error)}); {fix}"
        ) from error


def _load(folder: Path) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(str(folder))
    return tokenizer

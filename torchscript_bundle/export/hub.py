"""Download a model from the Hub, or say in one sentence why it cannot be had."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError, one_line

#: What a model needs besides its weights: configs, vocabularies, tokenizer files.
SMALL_FILES = ["*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja"]
#: Files that can run code when they are loaded.
PICKLES = ["*.bin", "model_head.pkl"]
#: Folders in which some models keep copies of their weights for other frameworks.
IGNORED = ["onnx/*", "openvino/*", "coreml/*"]


def find_folder(config: SetupConfig) -> tuple[Path, str | None]:
    """Return the folder of a model, and the commit of one that is downloaded from the Hub."""
    if config.local_model is not None:
        return config.local_model, None
    folder = download(config)
    return folder, folder.name


def download(config: SetupConfig) -> Path:
    """Fetch a model's files into the local cache; return the snapshot's folder."""
    patterns = [*SMALL_FILES, "*.safetensors"]
    patterns += [] if config.use_safetensors else PICKLES
    patterns += ["*.py"] if config.trust_remote_code else []
    fix = "correct model_name in setup_config.json"
    return fetch(config.model_name, config.revision, patterns, config.folder, fix)


def fetch(name: str, revision: str | None, patterns: list[str], beside: Path, fix: str) -> Path:
    """Fetch the files of a Hub repository that match; return the snapshot's folder.

    huggingface_hub shows progress, retries, and reads HF_ENDPOINT, HF_HOME, HF_TOKEN and
    HF_HUB_OFFLINE itself. `beside` is where a folder of that name was looked for; `fix` says what
    to do about a name that is neither.
    """
    revision = revision or "main"
    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=patterns, ignore_patterns=IGNORED
            )
        )
    except GatedRepoError as error:
        raise ExportError(
            f"{name} is gated: accept its licence on the Hub, then set HF_TOKEN to your token"
        ) from error
    except RevisionNotFoundError as error:
        raise ExportError(
            f"{name} has no revision {revision!r}; correct revision in setup_config.json"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ExportError(
            f"{name} is neither a folder ({beside / name}) nor a model on the Hub; {fix} (a "
            "private model also needs HF_TOKEN)"
        ) from error
    except Exception as error:  # the HTTP library's own, a page that is not a Hub's, a full disk
        raise ExportError(_not_fetched(name, error)) from error


def _not_fetched(name: str, error: Exception) -> str:
    if constants.HF_HUB_OFFLINE:
        return f"{name} is not in the local cache and HF_HUB_OFFLINE is set; unset it to download"
    # huggingface_hub reports that the cache has no copy either; the cause is the Hub's error.
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if status in (401, 403):
        return (
            f"the Hub refuses {name} to HF_TOKEN (HTTP {status}); set HF_TOKEN to a valid token "
            "that may read it, or unset it for a public model"
        )
    if isinstance(cause, OSError) and cause.errno is not None:
        return (
            f"{name} cannot be stored in the cache {constants.HF_HUB_CACHE} ({cause.strerror}); "
            "make room there, or set HF_HOME to another folder"
        )
    why = f"HTTP {status}" if status else f"{type(cause).__name__}: {one_line(cause)}"
    return (
        f"{name} could not be fetched from the Hub at {constants.ENDPOINT} ({why}); "
        "check the network and HF_ENDPOINT, or give a local folder as model_name"
    )

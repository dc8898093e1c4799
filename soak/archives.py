"""Make the archives that are served under load.

Each model of random weights comes in two editions with other weights, so that every answer tells
which edition gave it. Exports are kept until the code that makes them changes.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.archives import COMPLETE, digest_code, is_made
from benchmarks.say import say
from benchmarks.texts import TOKENIZER
from soak.servers import NotServed
from torchscript_bundle.server import ROOT

CACHE = Path(__file__).resolve().with_name(".cache")
EDITIONS = ("one", "two")
#: Most requests of a call, and most texts of a request.
BATCH, MOST_TEXTS = 8, 8


@dataclass(frozen=True, eq=False)
class Model:
    """A model of random weights, by the name it is served as and its keys of the config."""

    name: str
    mode: str
    architecture: str
    keys: dict[str, Any]


#: Classifies and explains, by TorchServe's continuous batching.
LABELS = Model(
    "labels",
    "sequence_classification",
    "BertForSequenceClassification",
    {"captum_explanation": True, "explanation_steps": 8},
)
#: Gives vectors, by TorchServe's plain batching.
VECTORS = Model("vectors", "feature_extraction", "BertModel", {})
MODELS = (LABELS, VECTORS)


@cache
def make(model: Model, edition: str) -> Path:
    """Return the archive of an edition of a model; it is packed once a run."""
    folder = CACHE / edition / model.name
    wanted = {
        "model_name": str(folder / "checkpoint"),
        "archive_name": model.name,
        "mode": model.mode,
        "max_length": 64,
        "batch_size": BATCH,
        "max_client_batch": MOST_TEXTS,
        **model.keys,
    }
    if not TOKENIZER.is_file():
        raise NotServed(f"{TOKENIZER} is not there; `make demo/model/model.safetensors` makes it")
    if not is_made(folder, wanted):
        shutil.rmtree(folder, ignore_errors=True)
        _save_checkpoint(model, EDITIONS.index(edition), folder / "checkpoint")
    return _archive(folder, wanted)


def make_demo() -> Path:
    """Return the archive of the repository's own config, the demo model."""
    config = ROOT / "setup_config.json"
    wanted = json.loads(config.read_text(encoding="utf-8"))
    wanted["model_name"] = str(ROOT / wanted["model_name"])
    wanted["artifacts_dir"] = str(ROOT / "Seq_classification_artifacts")
    wanted.pop("$schema", None)
    return _archive(CACHE / "demo", wanted)


def _archive(folder: Path, wanted: dict[str, Any]) -> Path:
    """Export a config into a folder if need be, and pack it with the serving code as it is."""
    from torchscript_bundle.export.archive import pack
    from torchscript_bundle.export.config import load_config
    from torchscript_bundle.export.exporter import export

    path, artifact = folder / "setup_config.json", folder / "artifact"
    if not is_made(folder, wanted):
        say(f"export {wanted['archive_name']} (kept for the next run)")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / COMPLETE).unlink(missing_ok=True)
        path.write_text(json.dumps(wanted, indent=2))
        export(load_config(path), artifact)
        (folder / COMPLETE).write_text(json.dumps(digest_code()))
    return pack(artifact, folder, load_config(path))


def _save_checkpoint(model: Model, seed: int, folder: Path) -> None:
    """Write a small encoder whose answers are far from those of another seed."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.BertConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        initializer_range=0.5,
        id2label={0: "NEGATIVE", 1: "POSITIVE"},
        label2id={"NEGATIVE": 0, "POSITIVE": 1},
    )
    getattr(transformers, model.architecture)(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER.with_name(name), folder)

"""Config files to load: of a few keys, or as the TorchServe example has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.export.helpers import write_config
from torchscript_bundle.export.config import SetupConfig, load_config

OLDEST = {
    "model_name": "org/name",
    "mode": "sequence_classification",
    "do_lower_case": "True",
    "num_labels": "2",
    "save_mode": "torchscript",
    "max_length": "150",
}
EXPLAINED = {
    **OLDEST,
    "do_lower_case": True,
    "save_mode": "pretrained",
    "captum_explanation": True,
    "embedding_name": "bert",
}
#: The model-config.yaml of 0.11.1 and later.
YAML: dict[str, Any] = {
    "minWorkers": 1,
    "maxWorkers": 1,
    "handler": {
        **{key: value for key, value in EXPLAINED.items() if key not in ("num_labels",)},
        "num_labels": 2,
        "max_length": 150,
        "BetterTransformer": False,
        "model_parallel": False,
    },
    "pt2": {"compile": {"enable": True, "backend": "inductor", "mode": "reduce-overhead"}},
}


def read(folder: Path, **settings: Any) -> SetupConfig:
    """Load a config with these keys over the two that every config has."""
    return load_config(write_config(folder, **{"model_name": "org/name", **settings}))


def load(folder: Path, config: dict[str, Any], name: str = "setup_config.json") -> SetupConfig:
    """Load the config of a file that holds these keys."""
    path = folder / name
    in_yaml = path.suffix == ".yaml"
    path.write_text(
        yaml.safe_dump(config, sort_keys=False) if in_yaml else json.dumps(config), encoding="utf-8"
    )
    return load_config(path)

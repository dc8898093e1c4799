"""The names that commands read of a config are those that its archive is made under."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.naming import read_served_name

MODE = "sequence_classification"


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({"model_name": "org/name"}, "name"),
        ({"model_name": "org/name", "archive_name": "other"}, "other"),
        ({"model_name": "./models/My Model"}, "My_Model"),
        ({"model_name": "org/token-classifier"}, "model_token-classifier"),
        ({"model_name": "org/---"}, MODE),
    ],
)
def test_the_name_is_the_whole_configs(keys: dict[str, str], name: str, tmp_path: Path) -> None:
    path = tmp_path / "setup_config.json"
    path.write_text(json.dumps({"mode": MODE, **keys}))
    assert read_served_name(path) == load_config(path).served_name == name


def test_a_config_without_names_is_told(tmp_path: Path) -> None:
    path = tmp_path / "setup_config.json"
    path.write_text(json.dumps({"model_name": ["a"]}))
    with pytest.raises(ExportError, match="model_name and mode must be texts"):
        read_served_name(path)

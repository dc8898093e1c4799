"""Tiny checkpoints and their artifacts, each made once a run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
import torch

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tests import tiny
from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.exporter import export

# Tiny models gain nothing from threads, and lose much where others use the cores.
torch.set_num_threads(1)

THREE = ("SAD", "SO-SO", "GLAD")

#: name -> what saves its checkpoint into a folder.
CHECKPOINTS: dict[str, Callable[[Path], Path]] = {
    "bert": partial(tiny.save_checkpoint, labels=THREE),
    "bert_cut_left": lambda folder: tiny.save_checkpoint(
        folder, tokenizer=tiny.wordpiece_tokenizer(truncation_side="left")
    ),
    "distilbert": partial(tiny.save_checkpoint, make_model=tiny.distilbert),
    "roberta": lambda folder: tiny.save_checkpoint(
        folder, tiny.roberta, tiny.byte_level_tokenizer()
    ),
    "fixed_length": partial(tiny.save_checkpoint, make_model=tiny.fixed_length),
    "fixed_shape": partial(tiny.save_checkpoint, make_model=tiny.fixed_shape),
    "bart": lambda folder: tiny.save_checkpoint(folder, tiny.bart, tiny.byte_level_tokenizer()),
    "convbert": partial(tiny.save_checkpoint, make_model=tiny.convbert),
    "padded_tokenizer": lambda folder: tiny.save_checkpoint(
        folder, tokenizer=tiny.fixed_padding_tokenizer()
    ),
    "multi_label": partial(
        tiny.save_checkpoint, labels=THREE, problem_type="multi_label_classification"
    ),
    "one_label": partial(tiny.save_checkpoint, labels=("SPAM",)),
    "regression": partial(tiny.save_checkpoint, labels=("STARS",), problem_type="regression"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs --slow"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A name of `CHECKPOINTS` -> the checkpoint's folder."""
    root = tmp_path_factory.mktemp("checkpoints")
    return cache(lambda name: CHECKPOINTS[name](root / name))


@pytest.fixture(scope="session")
def artifact(
    checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A name of `CHECKPOINTS` -> the folder of its artifact; do not write into it."""
    root = tmp_path_factory.mktemp("artifacts")

    @cache
    def make(name: str) -> Path:
        config = checkpoint(name) / "setup_config.json"
        facts = {"model_name": "./", "mode": "sequence_classification"}
        lengths = {"max_length": 64, "traced_lengths": [16, 32]}
        config.write_text(json.dumps({**facts, **lengths}))
        export(load_config(config), root / name)
        return root / name

    return make

"""What an artifact for token classification says of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tiny
from tests.conftest import ENTITIES
from tests.export.helpers import config_for, copy, refused
from torchscript_bundle.export.exporter import export
from torchscript_bundle.export.tokenizer_file import check_methods
from torchscript_bundle.serving.artifact import Bundle, Output


@pytest.mark.parametrize("name", ["bert_ner", "roberta_ner", "unigram_ner"])
def test_artifact_gives_logits_and_labels_of_each_token(
    artifact: Callable[[str], Path], name: str
) -> None:
    bundle = Bundle.load(artifact(name))
    assert (bundle.mode, bundle.labels) == ("token_classification", ENTITIES)
    assert bundle.outputs == (Output("logits", per_token=True),)
    assert (bundle.dynamic_batch, bundle.dynamic_length) == (True, True)


def test_checkpoint_of_another_task_is_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    model = copy(checkpoint("bert_mlm"), tmp_path / "model")
    with refused("token_classification", "answer at random"):
        export(config_for(tmp_path, model, mode="token_classification"), tmp_path / "out")


def test_tokenizer_that_spells_in_python_is_refused() -> None:
    class Own(type(tiny.wordpiece_tokenizer())):  # type: ignore[misc]
        def convert_tokens_to_string(self, tokens: list[str]) -> str:
            return "".join(tokens)

    tokenizer = tiny.wordpiece_tokenizer()
    check_methods(tokenizer, ("convert_tokens_to_string",))
    tokenizer.__class__ = Own
    with refused("Own has a convert_tokens_to_string of its own"):
        check_methods(tokenizer, ("convert_ids_to_tokens", "convert_tokens_to_string"))

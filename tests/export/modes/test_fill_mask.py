"""What an artifact for filling masks says of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import EsmConfig, EsmForMaskedLM

from tests import tiny
from tests.export.helpers import config_for, copy, edit_json, refused
from torchscript_bundle.export.exporter import export
from torchscript_bundle.serving.artifact import Bundle, Output


@pytest.mark.parametrize(
    ("name", "token", "clean_up"),
    [
        ("bert_mlm", "[MASK]", True),
        ("bare_mlm", "[MASK]", False),
        ("roberta_mlm", "<mask>", False),
        ("unigram_mlm", "<mask>", False),
    ],
)
def test_artifact_knows_the_mask(
    artifact: Callable[[str], Path], name: str, token: str, clean_up: bool
) -> None:
    bundle = Bundle.load(artifact(name))
    assert (bundle.mode, bundle.labels) == ("fill_mask", ())
    assert bundle.outputs == (Output("logits", special="mask"),)
    assert bundle.mode_options == {
        "mask_token": token,
        "mask_token_id": 4,
        "clean_up_spaces": clean_up,
    }


def test_tokenizer_without_a_mask_is_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    model = copy(checkpoint("bert_mlm"), tmp_path / "model")
    edit_json(model / "tokenizer_config.json", mask_token=None)
    with refused("has no mask token"):
        export(config_for(tmp_path, model, mode="fill_mask"), tmp_path / "out")


def test_byte_pairs_keep_their_spaces(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """As in transformers, which ignores the setting for them."""
    model = copy(checkpoint("roberta_mlm"), tmp_path / "model")
    edit_json(model / "tokenizer_config.json", clean_up_tokenization_spaces=True)
    bundle = export(config_for(tmp_path, model, mode="fill_mask"), tmp_path / "out")
    assert bundle.mode_options["clean_up_spaces"] is False


def test_proof_has_masks_in_every_row(artifact: Callable[[str], Path]) -> None:
    """Else it would compare nothing."""
    bundle = Bundle.load(artifact("bert_mlm"))
    cases = bundle.verification["cases"]
    assert {case["shape"]["length"] for case in cases} >= {3, 64}
    assert all(case["outputs"][0]["max_abs"] is not None for case in cases)


def test_model_that_cannot_be_split_is_exported_whole(tmp_path: Path) -> None:
    """ESM adds a bias after its output layer."""

    def esm(**options: object) -> EsmForMaskedLM:
        sizes = {**tiny.SIZES, "vocab_size": tiny.VOCABULARY, "intermediate_size": 64}
        model = EsmForMaskedLM(EsmConfig(**sizes, pad_token_id=0, mask_token_id=4))
        torch.nn.init.normal_(model.lm_head.bias)
        return model

    model = tiny.save_checkpoint(tmp_path / "model", esm)
    bundle = export(config_for(tmp_path, model, mode="fill_mask"), tmp_path / "out")
    assert bundle.outputs == (Output("logits", special="mask"),)
    assert (bundle.dynamic_batch, bundle.dynamic_length) == (True, True)

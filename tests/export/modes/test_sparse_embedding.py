"""Sparse embedding: what a folder says is followed exactly, or refused; logits in blocks."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    EsmConfig,
    EsmForMaskedLM,
    MobileBertConfig,
    MobileBertForMaskedLM,
)

from tests import tiny
from tests.export.helpers import config_for, copy, edit_json, refused
from torchscript_bundle.export import splade
from torchscript_bundle.export.exporter import export
from torchscript_bundle.export.kinds import load_source
from torchscript_bundle.export.modes.sparse_embedding import SparseEmbedding
from torchscript_bundle.export.output_layer import split_output_layer
from torchscript_bundle.export.splade import PooledBlocks, wrap_splade

MODE = "sparse_embedding"
POOLING = "1_SpladePooling/config.json"
SETTINGS = "config_sentence_transformers.json"
OF_TRANSFORMER = "sentence_bert_config.json"
INPUTS = ("input_ids", "attention_mask")


@pytest.fixture
def model(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the BERT encoder to spoil."""
    return copy(checkpoint("bert_sparse"), tmp_path / "model")


def options(folder: Path, model: Path, **settings: Any) -> dict[str, Any]:
    """What the mode makes of a folder."""
    config = config_for(folder, model, mode=MODE, **settings)
    return asdict(SparseEmbedding().options(load_source(config), config))


def write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


MLM = {"path": "", "type": "sentence_transformers.sparse_encoder.models.MLMTransformer"}
PLAIN = {"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
SPLADE = {
    "path": "1_SpladePooling",
    "type": "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling",
}
AUTO = {"path": "2", "type": "sentence_transformers.sparse_encoder.models.SparseAutoEncoder"}
STATIC = {"path": "", "type": "sentence_transformers.sparse_encoder.models.SparseStaticEmbedding"}
ROUTER = {"path": "", "type": "sentence_transformers.base.modules.router.Router"}


def test_both_spellings_of_the_first_module(model: Path, tmp_path: Path) -> None:
    write(model / "modules.json", [PLAIN, SPLADE])
    write(model / OF_TRANSFORMER, {"transformer_task": "fill-mask", "max_seq_length": 512})
    write(model / POOLING, {"pooling_strategy": "sum", "word_embedding_dimension": 300})
    assert options(tmp_path, model)["pooling"] == "sum"
    (model / "modules.json").unlink()
    assert options(tmp_path, model)["pooling"] == "max"


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ([MLM, SPLADE, AUTO], ["SparseAutoEncoder", "choose such a model"]),
        ([MLM], ["MLMTransformer; a sparse encoder is"]),
        ([STATIC], ["starts with the sentence-transformers module SparseStaticEmbedding"]),
        ([ROUTER], ["queries and documents differently", "one encoder for both"]),
        ([PLAIN, SPLADE], ["does feature-extraction", "this mode needs fill-mask"]),
    ],
)
def test_modules_that_cannot_be_followed_are_refused(
    model: Path, tmp_path: Path, modules: object, words: list[str]
) -> None:
    write(model / "modules.json", modules)
    with refused(*words) as refusal:
        options(tmp_path, model)
    assert refusal.sentence


def test_a_router_whose_encoders_are_in_folders_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "model" / "router_config.json", {})
    with refused("queries and documents differently") as refusal:
        load_source(config_for(tmp_path, tmp_path / "model", mode=MODE))
    assert refusal.sentence


@pytest.mark.parametrize(
    ("file", "value", "words"),
    [
        (POOLING, {"pooling_strategy": "mean"}, "the pooling_strategy 'mean'"),
        (POOLING, {"activation_function": "gelu"}, "the activation_function 'gelu'"),
        (SETTINGS, {"max_active_dims": 0}, "max_active_dims"),
        (SETTINGS, {"prompts": {"query": 5}}, "prompts"),
        (OF_TRANSFORMER, {"transformer_task": "feature-extraction"}, "needs fill-mask"),
        (OF_TRANSFORMER, {"max_seq_length": 12}, "max_length is 16"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(
    model: Path, tmp_path: Path, file: str, value: object, words: str
) -> None:
    write(model / file, value)
    with refused(words) as refusal:
        options(tmp_path, model)
    assert refusal.sentence


@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_blocks_give_the_same_as_all_logits(
    monkeypatch: pytest.MonkeyPatch, pooling: Any, activation: Any
) -> None:
    """Also in the last block, which is shorter, and for a text that is padded."""
    monkeypatch.setattr(splade, "BLOCK", 64)
    model = tiny.bert_mlm(initializer_range=0.5).eval()
    ids = torch.randint(5, tiny.VOCABULARY, (3, 7))
    mask = torch.ones_like(ids)
    mask[1, 4:] = mask[2, 1:] = 0
    both = [
        wrap_splade(model, INPUTS, pooling, activation, in_blocks=in_blocks)
        for in_blocks in (True, False)
    ]
    assert isinstance(both[0].module, PooledBlocks)
    with torch.no_grad():
        [blocks], [expected] = (each(ids, mask) for each in both)
    assert blocks.shape == (3, tiny.VOCABULARY) and bool((expected > 0).any())
    torch.testing.assert_close(blocks, expected, rtol=1e-6, atol=1e-6)


def test_models_that_add_to_the_output_layer_or_have_none_are_not_split(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sizes = {**tiny.SIZES, "vocab_size": tiny.VOCABULARY, "intermediate_size": 64}
    with caplog.at_level(logging.INFO):
        esm = EsmForMaskedLM(EsmConfig(**sizes, pad_token_id=1, mask_token_id=4)).eval()
        esm.lm_head.bias.data += 1.0
        assert split_output_layer(esm, INPUTS) is None
        sizes = {**sizes, "embedding_size": 16, "true_hidden_size": 32}
        mobile = MobileBertForMaskedLM(MobileBertConfig(**sizes)).eval()
        assert split_output_layer(mobile, INPUTS) is None
    assert caplog.text.count("all logits are computed") == 2
    split = split_output_layer(BertForMaskedLM(BertConfig(**sizes)).eval(), INPUTS)
    assert split is not None and split.layer.out_features == tiny.VOCABULARY


def test_bundle_says_how(model: Path, tmp_path: Path) -> None:
    edit_json(model / SETTINGS, max_active_dims=9, default_prompt_name="query")
    edit_json(model / SETTINGS, prompts={"query": "q: "})
    bundle = export(config_for(tmp_path, model, mode=MODE), tmp_path / "artifact")
    assert [output.name for output in bundle.outputs] == ["embedding"]
    assert (bundle.dynamic_batch, bundle.dynamic_length, bundle.labels) == (True, True, ())
    assert bundle.mode_options == {
        "pooling": "max",
        "activation": "relu",
        "max_active_dims": 9,
        "prompts": {"query": "q: "},
        "default_prompt": "q: ",
    }

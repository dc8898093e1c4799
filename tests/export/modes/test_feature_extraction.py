"""Feature extraction: what a folder says is followed exactly, or refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import snapshot_download

from tests import tiny
from tests.export.helpers import config_for, copy, edit_json, refused, write_config
from tests.hub import Hub
from torchscript_bundle.export import hub as hub_module
from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.exporter import export
from torchscript_bundle.export.kinds import load_source
from torchscript_bundle.export.modes.feature_extraction import FeatureExtraction
from torchscript_bundle.export.pooling import POOLINGS, SentenceHead, wrap_pooled

MODE = "feature_extraction"
POOLING = "1_Pooling/config.json"
SETTINGS = "config_sentence_transformers.json"
OF_TRANSFORMER = "sentence_bert_config.json"


@pytest.fixture
def model(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the BERT encoder to spoil: mean, Normalize."""
    return copy(checkpoint("bert_embedding"), tmp_path / "model")


def options(folder: Path, model: Path, **settings: Any) -> dict[str, Any]:
    """What the mode makes of a folder."""
    config = config_for(folder, model, mode=MODE, **settings)
    return asdict(FeatureExtraction().options(load_source(config), config))


def write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": ["cls"]}, "cls"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode_mean_tokens": False}, "mean"),
        ({}, "mean"),
    ],
)
def test_pooling_of_the_folder(
    model: Path, tmp_path: Path, pooling: dict[str, Any], expected: str
) -> None:
    """As sentence-transformers reads it; the serving tests compare the vectors."""
    write(model / POOLING, {"word_embedding_dimension": 32, **pooling})
    assert options(tmp_path, model)["pooling"] == expected


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode": "max"},
        {"pooling_mode": ["mean", "cls"]},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_sqrt_len_tokens": True},
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
    ],
)
def test_other_poolings_are_refused_unless_the_config_has_one(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, pooling: dict[str, Any]
) -> None:
    write(model / POOLING, pooling)
    with refused("is pooled by", "choose another model") as refusal:
        options(tmp_path, model)
    assert refusal.sentence
    assert options(tmp_path, model, pooling="cls")["pooling"] == "cls"
    assert "vectors differ from the model's own" in caplog.text


def test_config_wins_and_says_so(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert options(tmp_path, model)["normalized"] is True
    assert "differ" not in caplog.text
    found = options(tmp_path, model, pooling="last", normalize_embeddings=False)
    assert (found["pooling"], found["normalized"]) == ("last", False)
    assert "pooling last is applied" in caplog.text
    assert "normalize_embeddings false is applied" in caplog.text


def test_a_plain_model_is_pooled_by_the_mean(
    checkpoint: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = options(tmp_path, checkpoint("bert"))
    assert (found["pooling"], found["normalized"], found["prompts"]) == ("mean", False, {})
    assert options(tmp_path, checkpoint("bert"), normalize_embeddings=True)["normalized"] is True
    ours = [each for each in caplog.records if each.name.startswith("torchscript_bundle")]
    assert not [each for each in ours if "differ" in each.getMessage()]


MODULES = [
    {"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]
LSTM = {"path": "2_LSTM", "type": "sentence_transformers.models.LSTM"}
OUTSIDE = {"path": "../2_Dense", "type": "sentence_transformers.models.Dense"}
OWN = {"path": "", "type": "custom_st.Transformer"}


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ([*MODULES[:2], LSTM], ["LSTM", "choose a model without others"]),
        ([*MODULES[:2], LSTM, MODULES[2]], ["LSTM"]),
        (MODULES[:1], ["exported are"]),
        ([MODULES[0], MODULES[2], MODULES[1]], ["exported are"]),
        ([*MODULES[:2], OUTSIDE], ["../2_Dense", "outside of the model's folder"]),
        (MODULES[1:], ["starts with the sentence-transformers module Pooling"]),
        ([OWN, *MODULES[1:]], ["code of its own", "custom_st.Transformer"]),
        ([{**MODULES[0], "path": "0_T"}, *MODULES[1:]], ["0_T", "save the model again"]),
        ([5], ["an entry has no type"]),
        ({"modules": []}, ["modules.json: must be a list"]),
    ],
)
def test_modules_that_cannot_be_followed_are_refused(
    model: Path, tmp_path: Path, modules: object, words: list[str]
) -> None:
    write(model / "modules.json", modules)
    with refused(*words) as refusal:
        options(tmp_path, model, pooling="mean")
    assert refusal.sentence


@pytest.mark.parametrize(
    ("file", "value", "words"),
    [
        (SETTINGS, {"truncate_dim": 33}, ["truncate_dim is 33", "have 32 numbers"]),
        (SETTINGS, {"truncate_dim": "8"}, ["truncate_dim is '8'"]),
        (SETTINGS, {"prompts": {"query": 5}}, ["prompts"]),
        (SETTINGS, {"prompts": {}, "default_prompt_name": "query"}, ["default_prompt_name"]),
        (SETTINGS, [], ["must be an object"]),
        (OF_TRANSFORMER, {"max_seq_length": 12}, ["max_length is 16", "made for 12 tokens"]),
        (OF_TRANSFORMER, {"model_args": {"dtype": "bfloat16"}}, ["model_args"]),
        (OF_TRANSFORMER, {"transformer_task": "fill-mask"}, ["transformer_task"]),
        (OF_TRANSFORMER, {"modality_config": {"message": {}, "text": {}}}, ["as chats"]),
        ("2_Normalize/config.json", {"module_input_name": "token_embeddings"}, ["Normalize of"]),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(
    model: Path, tmp_path: Path, file: str, value: object, words: list[str]
) -> None:
    write(model / file, value)
    with refused(*words) as refusal:
        options(tmp_path, model)
    assert refusal.sentence


def test_lower_case_of_the_folder_needs_a_tokenizer_that_does_it(
    model: Path, tmp_path: Path
) -> None:
    write(model / OF_TRANSFORMER, {"do_lower_case": True})
    assert options(tmp_path, model)
    tiny.wordpiece_tokenizer(lowercase=False).save_pretrained(model)
    with refused("do_lower_case", "its tokenizer keeps case"):
        options(tmp_path, model)


def test_texts_cut_earlier_than_by_sentence_transformers_are_told(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(model / OF_TRANSFORMER, {"max_seq_length": 32})
    with caplog.at_level(logging.WARNING):
        options(tmp_path, model, max_length=32)
        assert "cuts the texts" not in caplog.text
        options(tmp_path, model, max_length=31)
    assert "cuts the texts" in caplog.text and "at 32 tokens" in caplog.text


def test_pooler_is_not_needed_and_not_kept(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """The BERT of the folder has no weights for it; RoBERTa's has, and no use for them."""
    for name in ("bert_embedding", "roberta_embedding"):
        source = load_source(config_for(tmp_path, checkpoint(name), mode=MODE))
        assert source.model.pooler is not None
        inputs = ["input_ids", "attention_mask"]
        wrapped = wrap_pooled(source.model, inputs, SentenceHead("mean", []))
        assert not any("pooler" in key for key in wrapped.state_dict())
        assert source.model.pooler is not None


def test_other_missing_weights_are_refused(tmp_path: Path) -> None:
    """A checkpoint of another architecture has none of the names."""
    model = tiny.save_checkpoint(tmp_path / "model", tiny.distilbert)
    edit_json(model / "config.json", model_type="bert", hidden_size=32, num_attention_heads=4)
    with refused("would answer at random"):
        load_source(config_for(tmp_path, model, mode=MODE))


def test_encoder_decoder_is_refused(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    with refused("an encoder with a decoder"):
        options(tmp_path, checkpoint("bart"))


def test_settings_of_the_mode_are_refused_for_others(tmp_path: Path) -> None:
    settings = {"pooling": "mean", "normalize_embeddings": False, "truncate_dim": 8}
    for key, value in {**settings, "default_prompt_name": "query"}.items():
        with refused(f"{key} is for the mode feature_extraction"):
            load_config(write_config(tmp_path, model_name="org/name", **{key: value}))
    with refused("pooling: Input should be 'mean', 'cls' or 'last'"):
        load_config(write_config(tmp_path, model_name="a/b", mode=MODE, pooling="max"))


@pytest.mark.parametrize("left", [False, True])
def test_poolings_look_at_real_tokens_alone(left: bool) -> None:
    tokens = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]] if left else [[1, 1, 0], [1, 1, 1]])
    first, last = (1, 2) if left else (0, 1)
    rows = {name: pool(tokens, mask)[0] for name, pool in POOLINGS.items()}
    assert torch.equal(rows["cls"], tokens[0, first])
    assert torch.equal(rows["last"], tokens[0, last])
    assert torch.equal(rows["mean"], (tokens[0, first] + tokens[0, last]) / 2)


def test_bundle_says_how(artifact: Callable[[str], Path]) -> None:
    bundle = json.loads((artifact("llama_embedding") / "bundle.json").read_text())
    assert bundle["outputs"] == [{"name": "embedding", "per_token": False, "special": None}]
    assert bundle["padding"]["side"] == "left"
    assert (bundle["mode_options"]["pooling"], bundle["labels"]) == ("last", [])


def test_files_in_subfolders_come_from_the_hub(
    hub: Hub, checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/encoder", checkpoint("roberta_embedding"))
    monkeypatch.setattr(
        hub_module,
        "snapshot_download",
        lambda name, **kwargs: snapshot_download(
            name, endpoint=hub.endpoint, cache_dir=tmp_path / "cache", **kwargs
        ),
    )
    config = load_config(write_config(tmp_path, model_name="org/encoder", mode=MODE))
    assert FeatureExtraction().options(load_source(config), config).pooling == "cls"
    assert hub.downloads()[POOLING] == 1


def test_a_model_that_has_no_pooler_is_exported_too(tmp_path: Path) -> None:
    model = tiny.save_checkpoint(tmp_path / "model", tiny.distilbert)
    bundle = export(config_for(tmp_path, model, mode=MODE, pooling="cls"), tmp_path / "artifact")
    assert bundle.mode_options["pooling"] == "cls"

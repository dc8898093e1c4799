"""Folders that are no model for the config, and what is said about each."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import normalizers

from tests import tiny
from tests.export.helpers import config_for, copy, edit_json, listing, refused
from torchscript_bundle.export.exporter import export
from torchscript_bundle.export.kinds import load_source

Spoil = Callable[[Path], None]
BERT = transformers.BertConfig(vocab_size=tiny.VOCABULARY, intermediate_size=64, **tiny.SIZES)


@pytest.fixture
def model(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the BERT checkpoint to spoil."""
    return copy(checkpoint("bert"), tmp_path / "model")


def without(*patterns: str) -> Spoil:
    """Removes files."""

    def spoil(folder: Path) -> None:
        for pattern in patterns:
            for path in list(folder.glob(pattern)):
                path.unlink()

    return spoil


def with_bytes(name: str, content: bytes) -> Spoil:
    """Writes a file."""

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return spoil


def with_keys(name: str, **changes: object) -> Spoil:
    """Changes keys of a JSON file."""
    return lambda folder: edit_json(folder / name, **changes)


def both(first: Spoil, second: Spoil) -> Spoil:
    """One after the other."""

    def spoil(folder: Path) -> None:
        first(folder)
        second(folder)

    return spoil


def cut(folder: Path) -> None:
    """Leaves half of the weights."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def with_shard_lost(folder: Path) -> None:
    """Weights in several files, one of them gone."""
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    loaded.save_pretrained(folder, max_shard_size="20KB")
    without("model.safetensors", "model-00001-*")(folder)


def pickle_only(folder: Path) -> None:
    """The weights as older checkpoints have them."""
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()


def with_tokens_added(folder: Path) -> None:
    """A tokenizer for another model."""
    tokenizer = tiny.wordpiece_tokenizer()
    tokenizer.add_tokens([f"word{index}" for index in range(200)])
    tokenizer.save_pretrained(folder)


def without_padding(folder: Path) -> None:
    """A tokenizer as GPT-2 has it."""
    tokenizer = tiny.wordpiece_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)


def saved(make: Callable[[], transformers.PreTrainedModel]) -> Spoil:
    """Another model under the same tokenizer."""

    def spoil(folder: Path) -> None:
        without("config.json", "model.safetensors")(folder)
        make().save_pretrained(folder)

    return spoil


def clip() -> transformers.PreTrainedModel:
    sizes = dict.fromkeys(("hidden_size", "intermediate_size", "projection_dim"), 16)
    shape = {**sizes, "num_hidden_layers": 1, "num_attention_heads": 2}
    picture = {**shape, "image_size": 8, "patch_size": 4}
    config = transformers.CLIPConfig(text_config=shape, vision_config=picture)
    return transformers.CLIPModel(config)


def t5_encoder() -> transformers.PreTrainedModel:
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(vocab_size=tiny.VOCABULARY, **shape)
    return transformers.T5EncoderModel(config)


DAMAGED = ("a safetensors file of", "is damaged", "download or save it again")
NO_TOKENIZER = ("has no tokenizer", "tokenizer.save_pretrained")
NO_VOCABULARY = ("has no vocabulary", "BertTokenizer", "tokenizer.save_pretrained")
NO_HEAD = ("not trained for sequence_classification", "at random", "fine-tuned")
NO_FIT = ("do not fit its config.json", "correct config.json")
OTHER_MODE = ("no sequence_classification head", "another mode")

#: What is wrong -> how a good checkpoint is spoiled, and words of the sentence.
CASES: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "no config": (without("config.json"), ("has no config.json", "save_pretrained")),
    "config not JSON": (with_bytes("config.json", b"{"), ("config.json of", "JSON object")),
    "config of a wrong type": (
        with_keys("config.json", hidden_size="many"),
        ("'hidden_size' expected int", "correct its config.json"),
    ),
    "config of another size": (
        with_keys("config.json", hidden_size=64),
        (*NO_FIT, "LayerNorm.bias is [32], the config asks for [64]"),
    ),
    "config with more labels": (
        with_keys("config.json", id2label={str(index): f"L{index}" for index in range(5)}),
        (*NO_FIT, "classifier.bias is [3], the config asks for [5]"),
    ),
    "unknown architecture": (
        with_keys("config.json", model_type="nosuch"),
        ("`nosuch`", "choose another model"),
    ),
    "no tokenizer": (without("tokenizer*"), NO_TOKENIZER),
    "only the tokenizer's config": (without("tokenizer.json"), NO_TOKENIZER),
    "another tokenizer's vocabulary": (
        both(without("tokenizer*"), with_bytes("vocab.json", b"{}")),
        NO_VOCABULARY,
    ),
    "an empty vocabulary": (
        both(without("tokenizer*"), with_bytes("vocab.txt", b"")),
        NO_VOCABULARY,
    ),
    "tokenizer not JSON": (
        with_bytes("tokenizer.json", b"{"),
        ("the tokenizer of", "cannot be loaded", "tokenizer files"),
    ),
    "no padding token": (without_padding, ("no padding token", "pad_token_id")),
    "more tokens than embeddings": (
        with_tokens_added,
        ("token ids up to 316", "embeddings for 300", "save"),
    ),
    "no weights": (without("*.safetensors"), ("has no weights", "save_pretrained")),
    "pickled weights": (pickle_only, ("no safetensors weights", '"use_safetensors": false')),
    "truncated weights": (cut, DAMAGED),
    "empty weights": (with_bytes("model.safetensors", b""), DAMAGED),
    "garbage for weights": (with_bytes("model.safetensors", bytes([255] * 99)), DAMAGED),
    "a shard lost": (with_shard_lost, ("model-00001-of-", "correct its files")),
    "no head (BertModel)": (
        saved(lambda: transformers.BertModel(BERT)),
        (*NO_HEAD, "no weights for classifier.bias, classifier.weight:"),
    ),
    "another head (BertForMaskedLM)": (
        saved(lambda: transformers.BertForMaskedLM(BERT)),
        (*NO_HEAD, "bert.pooler.dense.bias", "and more"),
    ),
    "an encoder (T5EncoderModel)": (saved(t5_encoder), (*NO_HEAD, "classification_head")),
    "pictures (CLIP)": (saved(clip), (*OTHER_MODE, "architecture clip")),
    "an unknown problem": (
        with_keys("config.json", problem_type="ranking"),
        ("problem_type in config.json", 'is "ranking"', "single_label_classification", "remove it"),
    ),
    "a problem for more labels": (
        with_keys(
            "config.json",
            problem_type="single_label_classification",
            id2label={"0": "GOOD"},
            label2id={"GOOD": 0},
        ),
        ("problem_type in config.json", "single_label_classification, which chooses", "has 1"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refuses_in_one_sentence_and_writes_nothing(model: Path, tmp_path: Path, case: str) -> None:
    spoil, words = CASES[case]
    spoil(model)
    output = tmp_path / "output"
    output.mkdir()
    with refused(str(model), *words) as refusal:
        export(config_for(tmp_path, model), output / "Transformer_model")
    assert len(refusal.sentence) < 400
    assert listing(output) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_length": 513}, ["max_length is 513", "at most 512"]),
        ({"device": "cuda:97"}, ["device is cuda:97", "CUDA devices", "set device to cpu"]),
        ({"num_labels": 2}, ["num_labels 2", "3 labels"]),
    ],
)
def test_refuses_settings_that_the_model_cannot_have(
    model: Path, tmp_path: Path, settings: dict[str, object], words: list[str]
) -> None:
    with refused(*words):
        export(config_for(tmp_path, model, **settings), tmp_path / "Transformer_model")


def test_a_pickle_is_loaded_where_the_config_allows_it(model: Path, tmp_path: Path) -> None:
    expected = load_source(config_for(tmp_path, model)).model.state_dict()
    pickle_only(model)
    found = load_source(config_for(tmp_path, model, use_safetensors=False)).model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_half_precision_is_loaded_as_float32(model: Path, tmp_path: Path) -> None:
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(model)
    loaded.to(torch.bfloat16).save_pretrained(model)
    assert json.loads((model / "config.json").read_text())["dtype"] == "bfloat16"
    source = load_source(config_for(tmp_path, model))
    assert {tensor.dtype for tensor in source.model.parameters()} == {torch.float32}
    assert not source.model.training


def test_code_beside_a_known_model_does_not_run(model: Path, tmp_path: Path) -> None:
    """transformers has this architecture itself, so it needs no trust and asks for none."""
    marker = tmp_path / "marker"
    (model / "own.py").write_text(f"open({str(marker)!r}, 'w').close()")
    edit_json(
        model / "config.json",
        auto_map={"AutoModelForSequenceClassification": "own.Model", "AutoConfig": "own.Config"},
    )
    source = load_source(config_for(tmp_path, model))
    assert type(source.model).__module__.startswith("transformers.models.bert.")
    assert not marker.exists()


CASED = "The FILM Was CAFE"


@pytest.mark.parametrize("tokenizer_class", ["TokenizersBackend", "BertTokenizer", None])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("wanted", [True, False, None])
def test_do_lower_case_takes_effect(
    model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    tokenizer_class: str | None,
    own: bool,
    wanted: bool | None,
) -> None:
    """Also for the tokenizer classes of transformers that ignore the option."""
    tiny.wordpiece_tokenizer(lowercase=own).save_pretrained(model)
    edit_json(model / "tokenizer_config.json", tokenizer_class=tokenizer_class, do_lower_case=own)
    with caplog.at_level(logging.WARNING):
        source = load_source(config_for(tmp_path, model, do_lower_case=wanted))
    ids = [source.tokenizer(text)["input_ids"] for text in (CASED, CASED.lower())]
    lowered = own if wanted is None else wanted
    assert (ids[0] == ids[1]) == lowered
    assert ("answers differ from the model's own" in caplog.text) == (lowered != own)


@pytest.mark.parametrize(
    ("wanted", "steps", "words"),
    [
        (True, [], ["do_lower_case true is not applied", "keeps case"]),
        (False, ["Lowercase"], []),
        (False, ["Replace"], ["do_lower_case false is not applied", "lower-cases in a step"]),
        (True, ["Replace"], []),
    ],
)
def test_do_lower_case_is_never_ignored_in_silence(
    model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    wanted: bool,
    steps: list[str],
    words: list[str],
) -> None:
    """On a byte-level tokenizer, whose normalizer has no switch; old files say it of any model."""
    kinds = {
        "Lowercase": normalizers.Lowercase(),
        "Replace": normalizers.Replace("A", "a"),
    }
    tokenizer = tiny.byte_level_tokenizer()
    parts = [normalizers.NFC(), *(kinds[step] for step in steps)]
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(parts)
    tokenizer.save_pretrained(model)
    config = config_for(tmp_path, model, do_lower_case=wanted)
    with caplog.at_level(logging.WARNING):
        loaded = load_source(config).tokenizer
    applied = (loaded.tokenize("A") == loaded.tokenize("a")) == wanted
    assert applied == (not words)
    assert [word for word in words if word not in caplog.text] == []

"""tokenizer.json as a worker reads it, beside the tokenizer that transformers loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import CodeGenTokenizer, PreTrainedTokenizerFast

from tests import tiny
from tests.export.helpers import refused
from torchscript_bundle.export.tokenizer_file import (
    TRIALS,
    check_decoding,
    check_tokenizer,
    highest_id,
    save_tokenizer,
    special_ids,
)
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.text.tokenizer import TextEncoder

Artifact = Callable[[str], Path]

KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "uncased": tiny.wordpiece_tokenizer,
    "cased": lambda: tiny.wordpiece_tokenizer(lowercase=False),
    "cut left": lambda: tiny.wordpiece_tokenizer(truncation_side="left"),
    "byte-level": tiny.byte_level_tokenizer,
}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """One of each kind."""
    return KINDS[request.param]()


@pytest.fixture
def bundle(artifact: Artifact, tokenizer: PreTrainedTokenizerFast) -> Bundle:
    """The facts that go with `tokenizer`."""
    typed = "token_type_ids" in tokenizer.model_input_names
    names = ("input_ids", "attention_mask", *(("token_type_ids",) if typed else ()))
    side: Any = tokenizer.truncation_side
    return replace(Bundle.load(artifact("bert")), inputs=names, truncation_side=side)


def test_the_saved_file_tokenizes_as_the_original(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, bundle: Bundle
) -> None:
    save_tokenizer(tokenizer, tmp_path)
    texts, pairs = len(TRIALS) + 2, len(TRIALS) + 1  # its special tokens, and the sample
    assert check_tokenizer(tokenizer, tmp_path, bundle, ["one more"]) == texts + pairs
    encoder = TextEncoder(tmp_path, bundle, truncate=True)
    for text in TRIALS:
        [row] = encoder.encode(text)
        expected = tokenizer(text, truncation=True, max_length=bundle.max_length)
        assert row.input_ids == expected["input_ids"]
    assert row.truncated and len(row) == bundle.max_length


def lower(state: dict[str, Any]) -> None:
    """Another normalizer."""
    state["normalizer"] = {"type": "Lowercase"} if state["normalizer"] is None else None


def unframe(state: dict[str, Any]) -> None:
    """No special tokens around a text."""
    state["post_processor"] = None


def swap(state: dict[str, Any]) -> None:
    """Two words with each other's ids."""
    vocabulary = state["model"]["vocab"]
    first, second = ("t", "e")
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def forget(state: dict[str, Any]) -> None:
    """Special tokens that are ordinary text."""
    state["added_tokens"] = []


@pytest.mark.parametrize("tamper", [lower, unframe, swap, forget])
def test_a_file_that_differs_is_refused(
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,
    bundle: Bundle,
    tamper: Callable[[dict[str, Any]], None],
) -> None:
    save_tokenizer(tokenizer, tmp_path)
    path = tmp_path / "tokenizer.json"
    state = json.loads(path.read_text())
    tamper(state)
    path.write_text(json.dumps(state))
    with refused("tokenizer.json tokenizes trial text", "cannot be served exactly"):
        check_tokenizer(tokenizer, tmp_path, bundle, [])


def test_a_difference_in_pairs_alone_is_found(tmp_path: Path, artifact: Artifact) -> None:
    tokenizer = tiny.wordpiece_tokenizer()
    save_tokenizer(tokenizer, tmp_path)
    path = tmp_path / "tokenizer.json"
    state = json.loads(path.read_text())
    state["post_processor"]["pair"][-1]["SpecialToken"]["type_id"] = 0
    path.write_text(json.dumps(state))
    with refused(f"trial text {len(TRIALS) + 1} "):
        check_tokenizer(tokenizer, tmp_path, Bundle.load(artifact("bert")), [])


def test_a_difference_in_a_sample_alone_is_found(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, bundle: Bundle
) -> None:
    save_tokenizer(tokenizer, tmp_path)
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    assert check_tokenizer(tokenizer, tmp_path, bundle, [alphabet]) == 2 * len(TRIALS) + 3
    state = json.loads((tmp_path / "tokenizer.json").read_text())
    state["normalizer"] = {"type": "Replace", "pattern": {"String": alphabet}, "content": "a"}
    if tokenizer.backend_tokenizer.normalizer is not None:
        own = json.loads(tokenizer.backend_tokenizer.to_str())["normalizer"]
        state["normalizer"] = {"type": "Sequence", "normalizers": [own, state["normalizer"]]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with refused(f"trial text {len(TRIALS) + 1} "):
        check_tokenizer(tokenizer, tmp_path, bundle, [alphabet])


def test_a_token_that_the_file_lacks_is_found(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, bundle: Bundle
) -> None:
    save_tokenizer(tokenizer, tmp_path)
    tokenizer.add_tokens(["qqqzqqq"])
    with refused(f"trial text {len(TRIALS)} "):
        check_tokenizer(tokenizer, tmp_path, bundle, [])


def test_the_highest_id_is_that_of_no_count() -> None:
    tokenizer = tiny.wordpiece_tokenizer()
    assert highest_id(tokenizer) == len(tokenizer) - 1
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["post_processor"]["special_tokens"]["[SEP]"]["ids"] = [888]
    framed = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    assert highest_id(framed) == 888
    state["model"]["vocab"]["a"] = 999
    gaps = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))
    assert highest_id(gaps) == 999 > len(gaps)


def test_special_ids_by_role() -> None:
    roles = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    assert special_ids(tiny.wordpiece_tokenizer()) == roles
    assert special_ids(tiny.byte_level_tokenizer())["eos"] == 2


@pytest.mark.parametrize(
    "make",
    [
        tiny.writing_tokenizer,
        tiny.unigram_tokenizer,
        lambda: tiny.spelling_wordpiece_tokenizer(clean_up_tokenization_spaces=True),
    ],
)
def test_tokens_that_are_spelled_alike_are_accepted(
    make: Callable[[], PreTrainedTokenizerFast],
) -> None:
    check_decoding(make(), ["It works."])


def code_tokenizer(kind: type[CodeGenTokenizer]) -> CodeGenTokenizer:
    state = json.loads(tiny.writing_tokenizer().backend_tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in state["merges"]]
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return kind(vocab=state["vocab"], merges=merges, **names)


def test_a_decode_in_python_is_accepted_where_it_does_the_same() -> None:
    """CodeGen's, which Phi has too, can cut answers of code, and does so only where asked."""
    assert CodeGenTokenizer.decode is not PreTrainedTokenizerFast.decode
    check_decoding(code_tokenizer(CodeGenTokenizer), [])


def test_a_decode_in_python_is_refused_where_it_does_not() -> None:
    class Shouting(CodeGenTokenizer):
        def decode(self, *args: Any, **named: Any) -> str:
            return str(super().decode(*args, **named)).upper()

    with refused("spells tokens otherwise", "choose another model"):
        check_decoding(code_tokenizer(Shouting), [])


def test_a_step_below_decode_in_python_is_refused() -> None:
    class Tidying(CodeGenTokenizer):
        def clean_up_tokenization(self, text: str) -> str:
            return text.strip()

    with refused("clean_up_tokenization of its own", "choose another model"):
        check_decoding(code_tokenizer(Tidying), [])

"""Texts -> rows, as the model's own tokenizer in transformers makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from torchscript_bundle.serving.artifact import TOKENIZER_FILE, Bundle
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.tokenization import TextEncoder

Folder = Callable[[str], Path]

TEXTS = [
    "The film was long.",
    "  CAFÉ, naïve \t Übergröße\n\u0000 ",
    "你好 \U0001f468\u200d\U0001f469 <s> [SEP] </s>",
    "cold soup " * 60 + "film",
]


def encoder(folder: Path, *, truncate: bool = True) -> TextEncoder:
    return TextEncoder(folder, Bundle.load(folder), truncate=truncate)


@pytest.mark.parametrize("name", ["bert", "bert_cut_left", "roberta"])
def test_rows_are_those_of_transformers(artifact: Folder, checkpoint: Folder, name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint(name))
    rows = encoder(artifact(name)).encode(TEXTS)
    for text, row in zip(TEXTS, rows, strict=True):
        expected = tokenizer(text, truncation=True, max_length=64, return_token_type_ids=True)
        assert row.input_ids == expected["input_ids"]
        assert row.type_ids == expected["token_type_ids"]


@pytest.mark.parametrize(
    ("words", "length", "truncated"), [(1, 3, False), (62, 64, False), (63, 64, True)]
)
def test_long_text_is_cut_and_marked(
    artifact: Folder, words: int, length: int, truncated: bool
) -> None:
    [row] = encoder(artifact("bert")).encode(["a " * words])
    assert (len(row), row.truncated, row.too_long) == (length, truncated, False)


@pytest.mark.parametrize(("words", "too_long"), [(62, False), (63, True)])
def test_long_text_is_only_marked(artifact: Folder, words: int, too_long: bool) -> None:
    [row] = encoder(artifact("bert"), truncate=False).encode(["a " * words])
    assert (len(row), row.truncated, row.too_long) == (words + 2, False, too_long)


def test_padding_and_truncation_in_the_file_are_ignored(artifact: Folder, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(artifact("bert") / TOKENIZER_FILE))
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / TOKENIZER_FILE))
    bundle = Bundle.load(artifact("bert"))
    for truncate in (True, False):
        rows = TextEncoder(tmp_path, bundle, truncate=truncate).encode(TEXTS)
        assert rows == encoder(artifact("bert"), truncate=truncate).encode(TEXTS)


def test_unreadable_tokenizer_is_named(artifact: Folder, tmp_path: Path) -> None:
    (tmp_path / TOKENIZER_FILE).write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json cannot be read by tokenizers"):
        TextEncoder(tmp_path, Bundle.load(artifact("bert")), truncate=True)

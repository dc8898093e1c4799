"""Texts -> rows, as the model's own tokenizer in transformers makes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from torchscript_bundle.serving.artifact import TOKENIZER_FILE, Bundle
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.text.tokenizer import TextEncoder, Truncation

Folder = Callable[[str], Path]

TEXTS = [
    "The film was long.",
    "  CAFÉ, naïve \t Übergröße\n\u0000 ",
    "你好 \U0001f468\u200d\U0001f469 <s> [SEP] </s>",
    "cold soup " * 60 + "film",
]


PAIRS = [
    ("The film was long.", "It works as described."),
    ("a", "cold soup " * 60),
    ("cold soup " * 60, "a"),
    ("cold soup " * 40, "film " * 50),
    ("[SEP] </s>", "</s> [CLS]"),
]
CUT_SECOND = Truncation("only_second")
WINDOWS = Truncation("only_second", windows=True)


def encoder(folder: Path, **options: Any) -> TextEncoder:
    return TextEncoder(folder, Bundle.load(folder), **{"truncate": True, **options})


@pytest.mark.parametrize("name", ["bert", "bert_cut_left", "roberta"])
def test_rows_are_those_of_transformers(artifact: Folder, checkpoint: Folder, name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint(name))
    texts = encoder(artifact(name))
    for text in TEXTS:
        [row] = texts.encode(text)
        expected = tokenizer(text, truncation=True, max_length=64, return_token_type_ids=True)
        assert row.input_ids == expected["input_ids"]
        assert row.type_ids == expected["token_type_ids"]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_request_may_choose_the_side_that_is_cut(
    artifact: Folder, checkpoint: Folder, side: Literal["left", "right"]
) -> None:
    """The next text is cut as ever."""
    own = AutoTokenizer.from_pretrained(checkpoint("bert"))
    other = AutoTokenizer.from_pretrained(checkpoint("bert"), truncation_side=side)
    texts = encoder(artifact("bert"))
    for text in [*TEXTS, *PAIRS]:
        sent = (text,) if isinstance(text, str) else text
        for tokenizer, wanted in ((other, side), (own, None)):
            [row] = texts.encode(text, side=wanted)
            expected = tokenizer(*sent, truncation=True, max_length=64)["input_ids"]
            assert row.input_ids == expected
        whole = own(sent[0])["input_ids"]
        assert texts.encode_uncut(sent[0], special_tokens=True).ids == whole


@pytest.mark.parametrize("name", ["bert", "bert_cut_left", "roberta"])
def test_pairs_are_those_of_transformers(artifact: Folder, checkpoint: Folder, name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint(name))
    pairs = encoder(artifact(name))
    for first, second in PAIRS:
        [row] = pairs.encode((first, second))
        whole = tokenizer(first, second)["input_ids"]
        expected = tokenizer(
            first, second, truncation=True, max_length=64, return_token_type_ids=True
        )
        assert row.input_ids == expected["input_ids"]
        assert row.type_ids == expected["token_type_ids"]
        assert row.truncated == (len(whole) > 64)


def test_text_of_a_pair_that_must_stay_whole_stays_whole(
    artifact: Folder, checkpoint: Folder
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint("bert"))
    pairs = encoder(artifact("bert"), truncation=CUT_SECOND)
    for first, second in PAIRS[:2]:
        [row] = pairs.encode((first, second))
        expected = tokenizer(first, second, truncation="only_second", max_length=64)
        assert row.input_ids == expected["input_ids"]


@pytest.mark.parametrize("truncation", [CUT_SECOND, WINDOWS])
@pytest.mark.parametrize("words", [61, 62, 200])
def test_pair_that_cannot_be_cut_is_told(
    artifact: Folder, words: int, truncation: Truncation
) -> None:
    pairs = encoder(artifact("bert"), truncation=truncation)
    with pytest.raises(RequestError) as caught:
        pairs.encode(("a " * words, "a b"))
    assert caught.value.status == 413
    assert caught.value.message == (
        "the texts together are over 64 tokens and the one that may be cut is too short for that; "
        "shorten the other"
    )
    assert len(pairs.encode(("a " * 60, "a b"))) == 1 + truncation.windows


def test_pair_that_would_fill_the_memory_is_refused(artifact: Folder) -> None:
    """Cut in 64 pieces each: 32 x 32 is allowed, 33 x 32 is not."""
    pairs = encoder(artifact("bert"))
    [row] = pairs.encode(("a " * 64 * 32, "b " * 64 * 32))
    assert (len(row), row.truncated) == (64, True)
    with pytest.raises(RequestError, match="far over 64 tokens; shorten them") as caught:
        pairs.encode(("a " * (64 * 32 + 1), "b " * 64 * 32))
    assert caught.value.status == 413
    started = time.process_time()
    with pytest.raises(RequestError, match="far over 64 tokens"):
        pairs.encode(("a " * 250_000, "b " * 250_000))
    assert time.process_time() - started < 10
    [long] = pairs.encode("a " * 250_000)
    assert (len(long), long.truncated) == (64, True)


def test_pairs_of_one_request_share_that_bound(artifact: Folder) -> None:
    """64 of them, cut in 8 pieces each: 8 x 8 is allowed, 9 x 8 is not."""
    pairs = encoder(artifact("bert"))
    text = "a " * 64 * 8
    assert pairs.encode((text, text), share=64)
    with pytest.raises(RequestError, match="send fewer pairs at a time") as caught:
        pairs.encode((text + "a", text), share=64)
    assert caught.value.status == 413
    assert pairs.encode(("a " * 64, "a " * 64), share=10**6), "each is one piece"


@pytest.mark.parametrize("stride", [0, 1, 20, 58])
@pytest.mark.parametrize("name", ["bert", "bert_cut_left", "roberta"])
def test_windows_are_those_of_transformers(
    artifact: Folder, checkpoint: Folder, name: str, stride: int
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint(name), truncation_side="right")
    windows = encoder(artifact(name), truncation=WINDOWS, max_windows=1000)
    # A stride of before is forgotten.
    windows.encode(PAIRS[1], stride=7)
    for first, second in PAIRS[:2]:
        rows = windows.encode((first, second), stride)
        expected = tokenizer(
            first,
            second,
            truncation="only_second",
            max_length=64,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        assert [row.input_ids for row in rows] == expected["input_ids"]
        encodings = [row.encoding for row in rows if row.encoding is not None]
        assert [each.offsets for each in encodings] == expected["offset_mapping"]
        assert not any(row.truncated or row.too_long for row in rows)


def test_windows_of_one_text_hold_all_of_it(artifact: Folder) -> None:
    text = " ".join(chr(ord("a") + number % 23) for number in range(150))
    windows = encoder(artifact("bert"), truncate=False, truncation=Truncation(windows=True))
    rows = windows.encode(text, stride=10)
    [whole] = encoder(artifact("bert"), truncate=False).encode(text)
    inner = whole.input_ids[1:-1]
    assert len(rows) > 2
    assert [row.input_ids[1:-1] for row in rows] == [
        inner[at : at + 62] for at in range(0, len(inner) - 10, 52)
    ]


def test_windows_are_no_more_than_allowed(artifact: Folder) -> None:
    """62 tokens in the first window, 42 new ones in each other."""
    windows = encoder(artifact("bert"), truncation=Truncation(windows=True), max_windows=3)
    assert len(windows.encode("a " * 146, stride=20)) == 3
    with pytest.raises(RequestError, match="the text makes 4 windows of 64 tokens") as caught:
        windows.encode("a " * 147, stride=20)
    assert caught.value.status == 413
    assert len(windows.encode("a " * 147)) == 3


@pytest.mark.parametrize("stride", [59, 60, 64, 10**6])
def test_windows_with_nothing_new_are_refused(artifact: Folder, stride: int) -> None:
    """`[CLS] a a [SEP] 59 tokens [SEP]`: tokenizers itself would panic."""
    windows = encoder(artifact("bert"), truncation=WINDOWS, max_windows=1000)
    with pytest.raises(RequestError, match="a window has room for 59 tokens") as caught:
        windows.encode(("a a", "soup " * 80), stride)
    assert caught.value.status == 413
    assert len(windows.encode(("a a", "soup"), stride)) == 1
    assert len(windows.encode(("a a", "soup " * 80), 58)) > 20


@pytest.mark.parametrize(
    ("words", "length", "truncated"), [(1, 3, False), (62, 64, False), (63, 64, True)]
)
def test_long_text_is_cut_and_marked(
    artifact: Folder, words: int, length: int, truncated: bool
) -> None:
    [row] = encoder(artifact("bert")).encode("a " * words)
    assert (len(row), row.truncated, row.too_long) == (length, truncated, False)


@pytest.mark.parametrize(("words", "too_long"), [(62, False), (63, True)])
def test_long_text_is_only_marked(artifact: Folder, words: int, too_long: bool) -> None:
    [row] = encoder(artifact("bert"), truncate=False).encode("a " * words)
    assert (len(row), row.truncated, row.too_long) == (words + 2, False, too_long)


def test_padding_and_truncation_in_the_file_are_ignored(artifact: Folder, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(artifact("bert") / TOKENIZER_FILE))
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / TOKENIZER_FILE))
    bundle = Bundle.load(artifact("bert"))
    for truncate in (True, False):
        other, own = (
            TextEncoder(folder, bundle, truncate=truncate)
            for folder in (tmp_path, artifact("bert"))
        )
        assert [other.encode(text) for text in TEXTS] == [own.encode(text) for text in TEXTS]


def test_unreadable_tokenizer_is_named(artifact: Folder, tmp_path: Path) -> None:
    (tmp_path / TOKENIZER_FILE).write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json cannot be read by tokenizers"):
        TextEncoder(tmp_path, Bundle.load(artifact("bert")), truncate=True)

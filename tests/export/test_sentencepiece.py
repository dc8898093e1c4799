"""Folders whose only tokenizer is SentencePiece's file, as XLM-R and DeBERTa-v3 are published."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from tests import tiny
from tests.export.helpers import config_for
from tests.serving.helpers import CPU, ask
from torchscript_bundle.export.exporter import export
from torchscript_bundle.export.tokenizer_file import TRIALS
from torchscript_bundle.serving.service import Service
from torchscript_bundle.serving.text.tokenizer import TextEncoder

PIECES = 100
SIZES = {"vocab_size": tiny.VOCABULARY, "intermediate_size": 64, **tiny.SIZES}
DEBERTA_PIECES = {
    **{"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3},
    **{"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
}


def xlm_roberta() -> Any:
    """A tiny XLM-R, whose ids are SentencePiece's and one more."""
    positions = {"max_position_embeddings": 66, "pad_token_id": 1, "type_vocab_size": 1}
    return XLMRobertaForSequenceClassification(
        XLMRobertaConfig(**SIZES, **positions, initializer_range=0.5)
    )


def deberta() -> Any:
    """A tiny DeBERTa-v3, whose ids are SentencePiece's, with a mask behind them."""
    attention = {"relative_attention": True, "position_buckets": 16, "type_vocab_size": 0}
    return DebertaV2ForSequenceClassification(
        DebertaV2Config(**SIZES, **attention, initializer_range=0.5)
    )


@dataclass(frozen=True)
class Kind:
    """An architecture with the file that its tokenizer is published as.

    Attributes:
        file: its name.
        training: options of the trainer, its special pieces.
        ids: what transformers makes of SentencePiece's ids, from its documentation.
    """

    file: str
    make: Callable[[], Any]
    training: dict[str, Any]
    ids: Callable[[list[int]], list[int]]


KINDS = {
    "xlm-roberta": Kind(
        "sentencepiece.bpe.model", xlm_roberta, {}, lambda ids: [0, *(each + 1 for each in ids), 2]
    ),
    "deberta-v2": Kind("spm.model", deberta, DEBERTA_PIECES, lambda ids: [1, *ids, 2]),
}


def save(folder: Path, kind: Kind) -> Path:
    """Writes a checkpoint with SentencePiece's file alone."""
    torch.manual_seed(0)
    kind.make().save_pretrained(folder)
    with (folder / kind.file).open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(tiny.CORPUS),
            model_writer=file,
            vocab_size=PIECES,
            hard_vocab_limit=False,
            minloglevel=2,
            **kind.training,
        )
    return folder


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # DeBERTa's own code
@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_a_folder_of_sentencepiece_alone_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    kind = KINDS[name]
    folder = save(tmp_path / "model", kind)
    assert not list(folder.glob("tokenizer*"))
    bundle = export(config_for(tmp_path, folder, max_length=64), tmp_path / "artifact")
    assert bundle.pairs

    tokenizer = AutoTokenizer.from_pretrained(folder)
    pieces = SentencePieceProcessor(model_file=str(folder / kind.file))
    encoder = TextEncoder(tmp_path / "artifact", bundle, truncate=True)
    for text in (*TRIALS, *tiny.CORPUS):
        [row] = encoder.encode(text)
        assert row.input_ids == tokenizer(text, truncation=True, max_length=64)["input_ids"]
    for text in tiny.CORPUS[:4]:
        [row] = encoder.encode(text)
        assert row.input_ids == kind.ids(pieces.encode(text))

    monkeypatch.setitem(sys.modules, "sentencepiece", None)  # workers have none
    service = Service(tmp_path / "artifact", CPU)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    for item in ({"text": tiny.CORPUS[0]}, {"text": "It works.", "text_pair": "a film"}):
        row = tokenizer(*item.values(), return_tensors="pt")
        taken = {key: row[key] for key in bundle.inputs}
        status, [answer] = ask(service, {**item, "top_k": 1})
        expected = model(**taken).logits[0].softmax(-1).max().item()
        assert (status, answer["score"]) == (200, pytest.approx(expected, abs=1e-5))

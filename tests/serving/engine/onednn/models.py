"""Models with random weights, small enough to pack in a moment."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from tests.serving.engine.onednn.helpers import PAD, ids, load
from torchscript_bundle.jit import tracing
from torchscript_bundle.jit.compilation import trace

Make = Callable[[], Any]

#: Names of artifacts (`tests.conftest.CHECKPOINTS`) that take batches of any length.
DYNAMIC = ["bert", "roberta", "distilbert", "gpt2", "bart", "bert_ner", "bert_sparse"]

NARROW = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300}
#: Of models for int8: layers wide enough, and weights large enough that rounding shows.
COUNTS = {"num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.1}
WIDE = {"hidden_size": 64, "intermediate_size": 256, "vocab_size": 300, "pad_token_id": PAD}


def albert() -> Any:
    """All layers are one layer."""
    config = AlbertConfig(**NARROW, embedding_size=16, intermediate_size=64)
    return AlbertForSequenceClassification(config)


def deberta() -> Any:
    """Attention by position: constant positions go through linear layers as well."""
    config = DebertaV2Config(
        **NARROW,
        intermediate_size=64,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        pad_token_id=PAD,
        position_buckets=16,
    )
    return DebertaV2ForSequenceClassification(config)


def llama() -> Any:
    """No biases, SiLU times a second layer, fewer key heads than query heads."""
    config = LlamaConfig(**NARROW, intermediate_size=64, num_key_value_heads=2, pad_token_id=PAD)
    return LlamaForSequenceClassification(config)


def bert() -> Any:
    return BertForSequenceClassification(BertConfig(**COUNTS, **WIDE))


def roberta() -> Any:
    return RobertaForSequenceClassification(RobertaConfig(**COUNTS, **WIDE))


def distilbert() -> Any:
    config = DistilBertConfig(
        **COUNTS, dim=64, hidden_dim=256, vocab_size=300, pad_token_id=PAD, n_layers=2, n_heads=4
    )
    return DistilBertForSequenceClassification(config)


def gpt2() -> Any:
    """Its layers are Conv1D, its GELU is spelled out, and it reads left to right."""
    config = GPT2Config(
        n_embd=64, n_layer=2, n_head=4, vocab_size=300, pad_token_id=PAD, initializer_range=0.1
    )
    return GPT2ForSequenceClassification(config)


class Logits(torch.nn.Module):
    """Ids and mask -> logits alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        return (self.model(input_ids=input_ids, attention_mask=attention_mask).logits,)


class Feedforward(torch.nn.Module):
    """A short encoder block; `reach` enlarges one channel of what the first layer reads."""

    def __init__(self, reach: float = 1.0, outputs: int = 64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = torch.nn.LayerNorm(32)
        self.up = torch.nn.Linear(32, outputs)
        self.down = torch.nn.Linear(outputs, 32)
        self.norm.weight.data[7] *= reach
        # What training makes of such a channel: small weights.
        self.up.weight.data[:, 7] /= reach

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.down(torch.nn.functional.gelu(self.up(self.norm(x)))) + x,)


def load_model(make: Make, folder: Path) -> torch.jit.ScriptModule:
    """A model of this module, traced at two rows of 16 tokens, as a worker loads it."""
    torch.manual_seed(0)
    with tracing.record_tracer_warnings(), warnings.catch_warnings():
        # DeBERTa makes tensors of sizes, which a trace sees as tensors already.
        warnings.filterwarnings("ignore", "To copy construct from a tensor", UserWarning)
        tracing.save(trace(Logits(make()).eval(), ids(2, 16)), folder / "model.pt")
    return load(folder / "model.pt")

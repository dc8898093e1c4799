"""A classifier of BERT-base's sizes (110 M parameters) with random weights, and its tokenizer.

Weights do not change what a product of matrices costs, so nothing has to be downloaded.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.texts import TOKENIZER

CACHE = Path(__file__).resolve().with_name(".cache")
LAYERS = 12
HIDDEN, INTERMEDIATE = 768, 3072
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


def make_checkpoint(layers: int = LAYERS) -> Path:
    """The folder of the checkpoint, made once.

    Args:
        layers: encoder layers; fewer for trials of the benchmark itself.
    """
    folder = CACHE / f"bert-{layers}"
    if (folder / "tokenizer_config.json").is_file():
        return folder
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(num_hidden_layers=layers))
    # With random weights both labels are about as likely; a preference keeps the answer of most
    # texts clear, so that what a lower precision may change is not decided by chance.
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([0.0, 1.0]))
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):  # the last file says: complete
        shutil.copy(TOKENIZER.with_name(name), folder)
    return folder


def linear_weights(layers: int = LAYERS) -> int:
    """Weights of the linear layers that every token goes through."""
    return layers * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INTERMEDIATE)


def weights_mb(precision: str, layers: int = LAYERS) -> float:
    """Megabytes of weights as a worker holds them: linear layers in the precision, the rest in
    float32."""
    embeddings = (30522 + 512 + 2 + 2) * HIDDEN + HIDDEN * HIDDEN
    linear = linear_weights(layers) * BYTES[precision]
    return (linear + 4 * embeddings) / 1e6


def operations(tokens: float, length: float, layers: int = LAYERS) -> float:
    """Multiplications and additions for so many tokens.

    Args:
        tokens: tokens that are computed, padding included.
        length: of the rows that they are in, on average; attention grows with it.
    """
    return tokens * (2 * linear_weights(layers) + layers * 4 * HIDDEN * length)

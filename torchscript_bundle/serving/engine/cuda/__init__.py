"""What a worker does on a GPU: pinned copies, CUDA graphs for buckets, batches as large as fit."""

from __future__ import annotations

from collections.abc import Callable

import torch

from torchscript_bundle.serving.engine.cuda.card import Card, NvidiaCard
from torchscript_bundle.serving.engine.cuda.card_passes import CardPasses

#: Kind of device -> what makes its card; rows run through `CardPasses` where there is one.
CARDS: dict[str, Callable[[torch.device], Card]] = {"cuda": NvidiaCard}

__all__ = ["CARDS", "Card", "CardPasses", "NvidiaCard"]

"""The executor of a GPU: pinned copies, CUDA graphs of buckets, batches as large as fit."""

from __future__ import annotations

from collections.abc import Callable

import torch

from torchscript_bundle.serving.engine.cuda.card import Card, NvidiaCard
from torchscript_bundle.serving.engine.cuda.card_executor import CardExecutor

#: Kind of device -> what makes its card; a `CardExecutor` runs rows where there is one.
CARDS: dict[str, Callable[[torch.device], Card]] = {"cuda": NvidiaCard}

__all__ = ["CARDS", "Card", "CardExecutor", "NvidiaCard"]

"""The executor of a GPU: pinned copies, CUDA graphs of buckets, batches as large as fit."""

from torchscript_bundle.serving.engine.cuda.card import Card
from torchscript_bundle.serving.engine.cuda.card_executor import CardExecutor

#: Kind of device -> its `Card`; a `CardExecutor` runs rows where there is one.
CARDS = {"cuda": Card}

__all__ = ["CARDS", "Card", "CardExecutor"]

"""The modes that can be served: one file each, one line each here."""

from __future__ import annotations

from torchscript_bundle.serving.modes.base import Mode
from torchscript_bundle.serving.modes.sequence_classification import SequenceClassification

MODES: dict[str, type[Mode]] = {
    "sequence_classification": SequenceClassification,
}

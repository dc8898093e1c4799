"""The modes that can be exported: one file each, one line each here."""

from __future__ import annotations

from torchscript_bundle.export.modes.base import ExportMode
from torchscript_bundle.export.modes.sequence_classification import SequenceClassification

MODES: dict[str, ExportMode] = {
    "sequence_classification": SequenceClassification(),
}

"""The heads that are tried: one for each Auto class of text models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transformers.models.auto import modeling_auto

from torchscript_bundle.export.modes import MODES
from torchscript_bundle.export.tasks import TASKS


@dataclass(frozen=True)
class Head:
    """One task's head.

    Attributes:
        auto_class: name of the Auto class that loads it.
        architectures: model type -> name of the class or classes with this head.
        outputs: members of its ModelOutput that are compared.
        framed: whether rows carry the special tokens that encoders are given.
        pairs: whether rows hold two texts.
        special: role of the special token whose entries alone are computed.
    """

    auto_class: str
    architectures: Mapping[str, str | tuple[str, ...]]
    outputs: tuple[str, ...] = ("logits",)
    framed: bool = True
    pairs: bool = False
    special: str | None = None


def _of_mode(name: str, architectures: Mapping[str, str | tuple[str, ...]]) -> Head:
    """The head that the exporter gives to a mode."""
    mode = MODES[name]
    outputs = tuple(output.name for output in mode.outputs)
    [special] = {output.special for output in mode.outputs}
    pairs = mode.pairs == "always"
    return Head(TASKS[name].auto_class, architectures, outputs, pairs=pairs, special=special)


HEADS: dict[str, Head] = {
    name: _of_mode(name, architectures)
    for name, architectures in (
        ("sequence_classification", modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
        ("token_classification", modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES),
        ("question_answering", modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES),
        ("fill_mask", modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    )
}
HEADS["text_generation"] = Head(
    "AutoModelForCausalLM", modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, framed=False
)

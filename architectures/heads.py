"""The heads that are tried: one for each Auto class of text models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transformers.models.auto import modeling_auto


@dataclass(frozen=True)
class Head:
    """One task's head.

    Attributes:
        auto_class: name of the Auto class that loads it.
        architectures: model type -> name of the class or classes with this head.
        outputs: members of its ModelOutput that are compared.
        framed: whether rows carry the special tokens that encoders are given.
        pairs: whether rows hold two texts.
    """

    auto_class: str
    architectures: Mapping[str, str | tuple[str, ...]]
    outputs: tuple[str, ...] = ("logits",)
    framed: bool = True
    pairs: bool = False


HEADS: dict[str, Head] = {
    "sequence_classification": Head(
        "AutoModelForSequenceClassification",
        modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    ),
    "token_classification": Head(
        "AutoModelForTokenClassification",
        modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    ),
    "question_answering": Head(
        "AutoModelForQuestionAnswering",
        modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
        outputs=("start_logits", "end_logits"),
        pairs=True,
    ),
    "fill_mask": Head("AutoModelForMaskedLM", modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    "text_generation": Head(
        "AutoModelForCausalLM", modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, framed=False
    ),
}

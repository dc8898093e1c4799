"""The `mode_options` of `bundle.json`: export writes them, serving reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import UnionType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from torchscript_bundle.serving.artifact import BUNDLE_FILE, REMAKE
from torchscript_bundle.serving.errors import ArtifactError

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
Pooling = Literal["mean", "cls", "last"]
SparsePooling = Literal["max", "sum"]
SparseActivation = Literal["relu", "log1p_relu"]
Activation = Literal["sigmoid", "identity"]


@dataclass(frozen=True)
class ModeOptions:
    """The options of a mode that stores none; a subclass has a field for each key."""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """Read `Bundle.mode_options`; raise ArtifactError for a missing or wrong key.

        Keys with a default are younger than others: older artifacts lack them.
        """
        place, hints = f"{BUNDLE_FILE}: mode_options", get_type_hints(cls)
        younger = {each.name for each in fields(cls) if each.default_factory is not MISSING}
        missing = [name for name in hints if name not in stored and name not in younger]
        if missing:
            raise ArtifactError(f"{place} lacks {', '.join(missing)}; {REMAKE}")
        given = {name: hint for name, hint in hints.items() if name in stored}
        for name, hint in given.items():
            if not _fits(stored[name], hint):
                words = ", ".join(get_args(hint)) if get_origin(hint) is Literal else ""
                wanted = f"known are {words}" if words else f"not {cls.__annotations__[name]}"
                raise ArtifactError(f"{place}.{name} is {stored[name]!r}; {wanted}; {REMAKE}")
        return cls(**{name: stored[name] for name in given})


@dataclass(frozen=True)
class SequenceClassificationOptions(ModeOptions):
    """How logits become scores: the `problem_type` of transformers."""

    problem_type: ProblemType


@dataclass(frozen=True)
class FillMaskOptions(ModeOptions):
    """The mask, and whether spaces before punctuation are removed from filled texts."""

    mask_token: str
    mask_token_id: int
    clean_up_spaces: bool


@dataclass(frozen=True)
class QuestionAnsweringOptions(ModeOptions):
    """The token for "no answer", if any, and whether the tokenizer splits a text into words."""

    null_token: int | None
    has_words: bool


@dataclass(frozen=True)
class ZeroShotOptions(ModeOptions):
    """Indices of the logits for "the text entails it" and "the text contradicts it"."""

    entailment: int
    contradiction: int


@dataclass(frozen=True)
class FeatureExtractionOptions(ModeOptions):
    """How token vectors become a text's vector, and the named prompts to put before a text.

    `unpooled` has the leading tokens of each prompt, by its text, where pooling leaves them out.
    """

    pooling: Pooling
    normalized: bool
    prompts: dict[str, str]
    default_prompt: str
    unpooled: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SparseEmbeddingOptions(ModeOptions):
    """How logits become a text's weights: names of sentence-transformers' SpladePooling.

    `max_active_dims` is how many terms the model itself keeps of a text; None for all.
    """

    pooling: SparsePooling
    activation: SparseActivation
    max_active_dims: int | None
    prompts: dict[str, str]
    default_prompt: str


@dataclass(frozen=True)
class RerankingOptions(ModeOptions):
    """The function from a logit to a score."""

    activation: Activation


@dataclass(frozen=True)
class GenerationOptions(ModeOptions):
    """Facts of a model that generates text; ids and lengths are those of its module.

    Attributes:
        start_id: the decoder's first token; -1 without an encoder.
        defaults: the model's own sampling parameters.
        chat_template: Jinja source that renders messages, if any.
        special_tokens: the tokenizer's, by role, which the template may print.
    """

    eos_ids: list[int]
    pad_id: int
    start_id: int
    first_id: int
    last_id: int
    max_source_length: int
    defaults: dict[str, Any]
    chat_template: str | None
    special_tokens: dict[str, Any]
    clean_up_spaces: bool
    default_max_new_tokens: int


@dataclass(frozen=True)
class ExampleSpelling(ModeOptions):
    """Whether decoding drops spaces before punctuation in the form of TorchServe's example."""

    example_cleans_up_spaces: bool


def _fits(value: object, hint: Any) -> bool:
    """Return whether a JSON value has a type; true is not a number."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Literal:
        return value in inner
    if kind is UnionType:
        return any(_fits(value, each) for each in inner)
    if kind is dict:
        return isinstance(value, dict) and all(_fits(each, inner[1]) for each in value.values())
    if kind is list:
        return isinstance(value, list) and all(_fits(each, inner[0]) for each in value)
    return hint is Any or type(value) is hint

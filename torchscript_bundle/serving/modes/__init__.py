"""The modes that can be served: one file each, one line each here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torchscript_bundle.serving.artifact import REMAKE, Bundle
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.modes.base import ForwardMode, Mode
from torchscript_bundle.serving.modes.feature_extraction import FeatureExtraction
from torchscript_bundle.serving.modes.fill_mask import FillMask
from torchscript_bundle.serving.modes.question_answering import QuestionAnswering
from torchscript_bundle.serving.modes.reranking import Reranking
from torchscript_bundle.serving.modes.sequence_classification import SequenceClassification
from torchscript_bundle.serving.modes.sparse_embedding import SparseEmbedding
from torchscript_bundle.serving.modes.text_generation import TextGeneration
from torchscript_bundle.serving.modes.token_classification import TokenClassification
from torchscript_bundle.serving.modes.torchserve_example import (
    ExampleQuestionAnswering,
    ExampleSequenceClassification,
    ExampleTextGeneration,
    ExampleTokenClassification,
)
from torchscript_bundle.serving.modes.zero_shot_classification import ZeroShotClassification

FORWARD_MODES: dict[str, type[ForwardMode]] = {
    "sequence_classification": SequenceClassification,
    "fill_mask": FillMask,
    "token_classification": TokenClassification,
    "question_answering": QuestionAnswering,
    "zero_shot_classification": ZeroShotClassification,
    "feature_extraction": FeatureExtraction,
    "sparse_embedding": SparseEmbedding,
    "reranking": Reranking,
}
#: Modes whose answers `GenerationService` generates.
GENERATION_MODES: dict[str, type[TextGeneration]] = {
    "text_generation": TextGeneration,
    "text2text_generation": TextGeneration,
}
MODES: dict[str, type[Mode]] = {**FORWARD_MODES, **GENERATION_MODES}

#: The modes of TorchServe's Hugging Face example, in its answer form.
EXAMPLE_FORWARD_MODES: dict[str, type[ForwardMode]] = {
    "sequence_classification": ExampleSequenceClassification,
    "token_classification": ExampleTokenClassification,
    "question_answering": ExampleQuestionAnswering,
}
EXAMPLE_GENERATION_MODES: dict[str, type[TextGeneration]] = {
    "text_generation": ExampleTextGeneration,
}
EXAMPLE_MODES: dict[str, type[Mode]] = {**EXAMPLE_FORWARD_MODES, **EXAMPLE_GENERATION_MODES}

AnyMode = TypeVar("AnyMode", bound=Mode)


def load_mode(bundle: Bundle) -> Mode:
    """Make the mode of an artifact; raise ArtifactError for an unknown mode or a wrong fact."""
    return _load(MODES, bundle)


def load_forward_mode(bundle: Bundle) -> ForwardMode:
    """Make the mode of an artifact that answers in one forward pass."""
    return _load(FORWARD_MODES, bundle)


def load_generation_mode(bundle: Bundle) -> TextGeneration:
    """Make the mode of an artifact that generates text."""
    return _load(GENERATION_MODES, bundle)


def load_native_mode(bundle: Bundle, own: Mode) -> Mode:
    """Make the mode that answers the native protocol: `own`, or that of the answer form."""
    return _in_answer_form(EXAMPLE_MODES, bundle, own)


def load_native_forward_mode(bundle: Bundle, own: ForwardMode) -> ForwardMode:
    """Make the same for a model that answers in one forward pass."""
    return _in_answer_form(EXAMPLE_FORWARD_MODES, bundle, own)


def load_native_generation_mode(bundle: Bundle, own: TextGeneration) -> TextGeneration:
    """Make the same for a model that generates text."""
    return _in_answer_form(EXAMPLE_GENERATION_MODES, bundle, own)


def _in_answer_form(modes: Mapping[str, type[AnyMode]], bundle: Bundle, own: AnyMode) -> AnyMode:
    return own if bundle.answer_form == "hugging_face" else _load(modes, bundle)


def _load(modes: Mapping[str, type[AnyMode]], bundle: Bundle) -> AnyMode:
    if bundle.mode not in modes:
        known = f"known are {', '.join(MODES)}"
        raise ArtifactError(f"bundle.json: mode {bundle.mode!r} is not served; {known}; {REMAKE}")
    return modes[bundle.mode](bundle)

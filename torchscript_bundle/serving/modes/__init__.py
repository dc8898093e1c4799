"""The modes that can be served: one file each, one line each here."""

from __future__ import annotations

from torchscript_bundle.serving.artifact import REMAKE, Bundle
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.modes.base import Mode
from torchscript_bundle.serving.modes.feature_extraction import FeatureExtraction
from torchscript_bundle.serving.modes.fill_mask import FillMask
from torchscript_bundle.serving.modes.question_answering import QuestionAnswering
from torchscript_bundle.serving.modes.reranking import Reranking
from torchscript_bundle.serving.modes.sequence_classification import SequenceClassification
from torchscript_bundle.serving.modes.text_generation import Text2TextGeneration, TextGeneration
from torchscript_bundle.serving.modes.token_classification import TokenClassification
from torchscript_bundle.serving.modes.zero_shot_classification import ZeroShotClassification

MODES: dict[str, type[Mode]] = {
    "sequence_classification": SequenceClassification,
    "fill_mask": FillMask,
    "token_classification": TokenClassification,
    "question_answering": QuestionAnswering,
    "zero_shot_classification": ZeroShotClassification,
    "feature_extraction": FeatureExtraction,
    "reranking": Reranking,
    "text_generation": TextGeneration,
    "text2text_generation": Text2TextGeneration,
}


def load_mode(bundle: Bundle) -> Mode:
    """The mode of an artifact.

    Raises:
        ArtifactError: no such mode, or a fact that it needs is missing or wrong.
    """
    if bundle.mode not in MODES:
        raise ArtifactError(
            f"bundle.json: mode {bundle.mode!r} is not served; known are "
            f"{', '.join(MODES)}; {REMAKE}"
        )
    return MODES[bundle.mode](bundle)

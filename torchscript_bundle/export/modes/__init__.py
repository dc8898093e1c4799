"""The modes that can be exported: one file each, one line each here."""

from __future__ import annotations

from torchscript_bundle.export.modes.base import ExportMode
from torchscript_bundle.export.modes.feature_extraction import FeatureExtraction
from torchscript_bundle.export.modes.fill_mask import FillMask
from torchscript_bundle.export.modes.question_answering import QuestionAnswering
from torchscript_bundle.export.modes.reranking import Reranking
from torchscript_bundle.export.modes.sequence_classification import SequenceClassification
from torchscript_bundle.export.modes.sparse_embedding import SparseEmbedding
from torchscript_bundle.export.modes.text_generation import Text2TextGeneration, TextGeneration
from torchscript_bundle.export.modes.token_classification import TokenClassification
from torchscript_bundle.export.modes.zero_shot_classification import ZeroShotClassification

MODES: dict[str, ExportMode] = {
    "sequence_classification": SequenceClassification(),
    "fill_mask": FillMask(),
    "token_classification": TokenClassification(),
    "question_answering": QuestionAnswering(),
    "zero_shot_classification": ZeroShotClassification(),
    "feature_extraction": FeatureExtraction(),
    "sparse_embedding": SparseEmbedding(),
    "reranking": Reranking(),
    "text_generation": TextGeneration(),
    "text2text_generation": Text2TextGeneration(),
}

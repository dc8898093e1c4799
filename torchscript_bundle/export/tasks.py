"""Facts about every mode for the config, without torch and transformers, which load slowly."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torchscript_bundle.serving.artifact import PRECISIONS, AnswerForm


@dataclass(frozen=True, kw_only=True)
class Task:
    """The facts about a mode before any model is loaded.

    Attributes:
        auto_class: the transformers Auto class that loads a model with this task's head.
        artifacts_dir: folder with index_to_name.json and sample requests, beside the config.
        older_artifacts_dir: name of that folder in the TorchServe example, where it differs.
        other_names: Hugging Face's tasks, heads of transformers, and what people say.
        settings: keys of setup_config.json that only this kind of mode reads.
        explained: whether its answers have scores that can be explained.
        unused_weights: prefixes of weights that a checkpoint may lack: answers do not need them.
        precisions: the values of `precision` that its workers can compute in.
        answer_forms: the values of `answer_form`: the TorchServe example had four modes.
        reads_source: whether an encoder reads the text, so that the answer has its own positions.
    """

    auto_class: str
    artifacts_dir: str
    older_artifacts_dir: str | None = None
    other_names: tuple[str, ...]
    settings: tuple[str, ...] = ()
    explained: bool = True
    unused_weights: tuple[str, ...] = ()
    precisions: tuple[str, ...] = (*PRECISIONS, "auto")
    answer_forms: tuple[AnswerForm, ...] = ("hugging_face",)
    generates: bool = False
    reads_source: bool = False

    def request_tokens(self, max_length: int) -> int:
        """Return the most tokens that one request may hold, prompt and answer together."""
        return 2 * max_length if self.reads_source else max_length


IN_EXAMPLE: tuple[AnswerForm, ...] = ("hugging_face", "torchserve_example")
TEXT_GENERATION = Task(
    auto_class="AutoModelForCausalLM",
    artifacts_dir="Text_generation_artifacts",
    older_artifacts_dir="Text_gen_artifacts",
    other_names=(
        *("causal_lm", "generation", "generate", "llm", "chat", "chat_completion"),
        *("conversational", "completion", "language_modeling"),
    ),
    settings=("max_batch_tokens", "default_max_new_tokens"),
    explained=False,
    precisions=("float32", "bfloat16"),
    answer_forms=IN_EXAMPLE,
    generates=True,
)
TASKS = {
    "sequence_classification": Task(
        auto_class="AutoModelForSequenceClassification",
        artifacts_dir="Seq_classification_artifacts",
        other_names=(
            *("text_classification", "classification", "classifier", "sentiment"),
            *("sentiment_analysis", "intent_classification", "toxicity", "regression"),
        ),
        answer_forms=IN_EXAMPLE,
    ),
    "fill_mask": Task(
        auto_class="AutoModelForMaskedLM",
        artifacts_dir="Fill_mask_artifacts",
        other_names=("mlm", "masked_lm", "masked_language_modeling", "fillmask", "mask_filling"),
    ),
    "token_classification": Task(
        auto_class="AutoModelForTokenClassification",
        artifacts_dir="Token_classification_artifacts",
        other_names=(
            *("ner", "named_entity_recognition", "entities", "entity_recognition", "pos"),
            *("pos_tagging", "tagging", "chunking"),
        ),
        answer_forms=IN_EXAMPLE,
    ),
    "question_answering": Task(
        auto_class="AutoModelForQuestionAnswering",
        artifacts_dir="QA_artifacts",
        other_names=("qa", "squad", "extractive_qa", "extractive_question_answering"),
        answer_forms=IN_EXAMPLE,
    ),
    "zero_shot_classification": Task(
        auto_class="AutoModelForSequenceClassification",
        artifacts_dir="Zero_shot_artifacts",
        other_names=("zero_shot", "zeroshot", "nli", "natural_language_inference"),
    ),
    "feature_extraction": Task(
        auto_class="AutoModel",
        artifacts_dir="Embedding_artifacts",
        other_names=(
            *("embedding", "embeddings", "embed", "sentence_embeddings", "text_embedding"),
            *("text_embeddings", "sentence_similarity", "sentence_transformers"),
        ),
        settings=("pooling", "normalize_embeddings", "truncate_dim", "default_prompt_name"),
        explained=False,
        unused_weights=("pooler.",),
    ),
    "sparse_embedding": Task(
        auto_class="AutoModelForMaskedLM",
        artifacts_dir="Sparse_embedding_artifacts",
        other_names=(
            *("splade", "sparse", "sparse_embeddings", "embed_sparse", "sparse_encoder"),
            *("sparse_encoding", "sparse_retrieval", "neural_sparse"),
        ),
        explained=False,
    ),
    "reranking": Task(
        auto_class="AutoModelForSequenceClassification",
        artifacts_dir="Reranking_artifacts",
        other_names=("rerank", "reranker", "ranking", "text_ranking", "cross_encoder"),
    ),
    "text_generation": TEXT_GENERATION,
    "text2text_generation": replace(
        TEXT_GENERATION,
        auto_class="AutoModelForSeq2SeqLM",
        artifacts_dir="Text2text_generation_artifacts",
        older_artifacts_dir=None,
        answer_forms=("hugging_face",),
        other_names=(
            *("text2text", "summarization", "summarisation", "summary", "translation", "translate"),
            *("seq2seq", "seq2seq_lm", "sequence_to_sequence", "paraphrasing"),
        ),
        reads_source=True,
    ),
}

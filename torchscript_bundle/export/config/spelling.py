"""What a wrong mode or key was meant to be: other names for the same, and slips of the pen."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

#: Least similarity (difflib's ratio, 0 to 1) of a slip to what was meant, and most letters that
#: either has and the other lacks: long names can be alike and mean other things.
NEAR, MOST_LETTERS = 0.8, 3

#: Other names of a mode: tasks of Hugging Face, heads of transformers, and what people say.
OTHER_MODES = {
    "sequence_classification": (
        *("text_classification", "classification", "classifier", "sentiment"),
        *("sentiment_analysis", "intent_classification", "toxicity", "regression"),
    ),
    "token_classification": (
        *("ner", "named_entity_recognition", "entities", "entity_recognition", "pos"),
        *("pos_tagging", "tagging", "chunking"),
    ),
    "question_answering": ("qa", "squad", "extractive_qa", "extractive_question_answering"),
    "fill_mask": ("mlm", "masked_lm", "masked_language_modeling", "fillmask", "mask_filling"),
    "feature_extraction": (
        *("embedding", "embeddings", "embed", "sentence_embeddings", "text_embedding"),
        *("text_embeddings", "sentence_similarity", "sentence_transformers"),
    ),
    "reranking": ("rerank", "reranker", "ranking", "text_ranking", "cross_encoder"),
    "zero_shot_classification": ("zero_shot", "zeroshot", "nli", "natural_language_inference"),
    "text_generation": (
        *("causal_lm", "generation", "generate", "llm", "chat", "chat_completion"),
        *("conversational", "completion", "language_modeling"),
    ),
    "text2text_generation": (
        *("text2text", "summarization", "summarisation", "summary", "translation", "translate"),
        *("seq2seq", "seq2seq_lm", "sequence_to_sequence", "paraphrasing"),
    ),
}

#: Other names of a key, in other tools and in other examples of TorchServe.
OTHER_KEYS = {
    "model": "model_name",
    "model_id": "model_name",
    "model_path": "model_name",
    "model_name_or_path": "model_name",
    "pretrained_model_name_or_path": "model_name",
    "task": "mode",
    "pipeline_tag": "mode",
    "max_seq_length": "max_length",
    "max_seq_len": "max_length",
    "max_model_len": "max_length",
    "dtype": "precision",
    "torch_dtype": "precision",
    "quantize": "precision",
    "max_new_tokens": "default_max_new_tokens",
    "timeout": "response_timeout",
}


def spelled(name: str) -> str:
    """Return a name without what people spell differently: case, hyphens, underscores, spaces."""
    return "".join(letter for letter in name.casefold() if letter not in "-_ ")


def near(name: str, known: Iterable[str], others: Mapping[str, str]) -> str | None:
    """Return the known name that another one stands for; None where that would be a guess.

    Args:
        name: what was written.
        known: names that would have been right.
        others: further names -> the right one.
    """
    by_spelling = {spelled(other): right for other, right in others.items()}
    by_spelling |= {spelled(right): right for right in known}
    wrong = spelled(name)
    if wrong in by_spelling:
        return by_spelling[wrong]
    close = difflib.get_close_matches(wrong, by_spelling, n=1, cutoff=NEAR)
    if not close or _letters_apart(wrong, close[0]) > MOST_LETTERS:
        return None
    return by_spelling[close[0]]


def _letters_apart(one: str, other: str) -> int:
    blocks = difflib.SequenceMatcher(None, other, one).get_matching_blocks()
    return len(one) + len(other) - 2 * sum(block.size for block in blocks)


def meant_mode(mode: str, known: Iterable[str]) -> str | None:
    """Return the mode that is meant by another name for it, or None."""
    others = {other: right for right, names in OTHER_MODES.items() for other in names}
    return near(mode, known, others)

"""Spaces that some tokenizers put where English has none."""

from __future__ import annotations

#: Source: PreTrainedTokenizerBase.clean_up_tokenization.
CLEANED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def clean_up(text: str) -> str:
    """Without the spaces that a tokenizer puts before punctuation and English endings.

    Source: PreTrainedTokenizerBase.clean_up_tokenization.
    """
    for each in CLEANED:
        text = text.replace(each, each.strip())
    return text

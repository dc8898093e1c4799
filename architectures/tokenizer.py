"""A tokenizer of made-up words: enough to frame and pad rows as real ones do."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from architectures.sizes import VOCABULARY

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_tokenizer(*, framed: bool, doubled: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer with the special ids of `SIZES`.

    Args:
        framed: put `[CLS]` before and `[SEP]` after a text, as encoders are given, and pad on the
            right; else neither, and pad on the left, as decoders are.
        doubled: two `[SEP]` between the texts of a pair, as RoBERTa has them.
    """
    words = ["a", *(f"w{number}" for number in range(VOCABULARY - len(SPECIAL) - 1))]
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if framed:
        between = "[SEP] [SEP]" if doubled else "[SEP]"
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair=f"[CLS] $A {between} $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if framed else [])]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=inputs,
        padding_side="right" if framed else "left",
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        mask_token="[MASK]",
    )

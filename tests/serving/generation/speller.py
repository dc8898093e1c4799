"""A tiny writer whose answer is known beforehand: characters that break readers of streams."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from tests.export.generation.helpers import MAX_LENGTH
from tests.serving.generation.helpers import Written, save

#: Each a token. Most of them end a line for `str.splitlines`; the others are not ASCII.
SPELLED = (
    *("\u2028", "a", "\u0085", "b", "\u2029", "\u2705", "\u00e9", "\x0b", "\x0c", "c", "\x1c"),
    *("\x1d", "\x1e", "\r", "\n", "\u4e2d", "\U0001f600", "\u00a0", "\ufeff", "d"),
)
ANSWER = "".join(SPELLED)
SPECIAL = ("<unk>", "<s>", "</s>")


def make_speller(folder: Path) -> Written:
    """Writes its artifact: whatever the prompt ends with, the answer is `ANSWER`.

    Args:
        folder: is made.
    """
    others = [letter for letter in string.printable if letter not in SPELLED]
    vocabulary = {token: at for at, token in enumerate((*SPECIAL, *others, *SPELLED))}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL))
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    model = _model(vocabulary)
    model.generation_config.eos_token_id = [vocabulary["</s>"]]
    return save("speller", model, wrapped, folder)


def _model(vocabulary: dict[str, int]) -> GPT2LMHeadModel:
    """Only its last token counts: each is followed by one other."""
    size = len(vocabulary)
    config = GPT2Config(
        vocab_size=size,
        n_embd=128,
        n_head=2,
        n_layer=1,
        n_positions=MAX_LENGTH,
        bos_token_id=vocabulary["<s>"],
        eos_token_id=vocabulary["</s>"],
        tie_word_embeddings=False,
    )
    assert size <= config.n_embd
    model = GPT2LMHeadModel(config).eval()
    following = dict(zip(SPELLED, (*SPELLED[1:], "</s>"), strict=True))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" not in name:
                parameter.zero_()
        model.transformer.wte.weight.copy_(torch.eye(size, config.n_embd))
        for token, at in vocabulary.items():
            model.lm_head.weight[vocabulary[following.get(token, SPELLED[0])], at] = 1.0
    return model

"""Write tokenizer.json, and prove that it tokenizes as transformers does."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.serving.artifact import TOKENIZER_FILE, Bundle

#: Methods that a class must not override for its tokens to be decoded from tokenizer.json.
DECODING = ("decode", "_decode", "clean_up_tokenization")
ROLES = ("pad", "cls", "sep", "unk", "mask", "bos", "eos")

#: Texts on which tokenizers are known to differ: case, accents, spaces, scripts, emoji, length.
TRIALS = (
    "The food was great, the service was not.",
    "ALL CAPS and MiXeD Case, don't, it's 3.14159 - or is it?",
    "  leading,  double  and trailing spaces \t and a tab\nand a line  ",
    "Caf\u00e9 na\u00efve \u00dcbergr\u00f6\u00dfe \u0130stanbul e\u0301 \ufb01ne",
    "\u4f60\u597d\uff0c\u4e16\u754c \u3053\u3093\u306b\u3061\u306f \uc548\ub155 \u0645\u0631\u062d"
    "\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u043f\u0440\u0438\u0432\u0435\u0442",
    "emoji \U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 and \u200b zero width \x00 null",
    "<s> [CLS] literal [SEP] special [MASK] tokens </s> <pad> <|endoftext|>",
    "word " * 3000,
)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write `tokenizer.json`; the library's `save` raises a bare Exception for an OSError."""
    text = tokenizer.backend_tokenizer.to_str(pretty=True)
    (folder / TOKENIZER_FILE).write_text(text, encoding="utf-8")


def special_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return the ids of the tokenizer's special tokens, by role."""
    ids = {role: getattr(tokenizer, f"{role}_token_id") for role in ROLES}
    return {role: index for role, index in ids.items() if index is not None}


def highest_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the highest id in any text; special tokens may be missing from the vocabulary."""
    framed = tokenizer.backend_tokenizer.encode("a", "a").ids
    return int(max(*tokenizer.get_vocab().values(), *framed))


def check_methods(tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> None:
    """Refuse a tokenizer whose class overrides methods in Python, which a worker lacks."""
    for name in names:
        if getattr(type(tokenizer), name) is not getattr(PreTrainedTokenizerFast, name):
            raise ExportError(
                f"{type(tokenizer).__name__} has a {name} of its own, in Python, so its tokens "
                "cannot be spelled from tokenizer.json alone; choose another model"
            )


def cleans_up_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether decoding drops spaces before punctuation (TokenizersBackend._decode)."""
    byte_pairs = isinstance(tokenizer.backend_tokenizer.model, models.BPE)
    forced = tokenizer.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output
    return bool(tokenizer.clean_up_tokenization_spaces) and (forced or not byte_pairs)


def cleaned_up_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether decoding dropped them in transformers 4: unless the tokenizer's file says no.

    Source: PreTrainedTokenizerBase.__init__ up to 4.44, where it was the default for all.
    """
    return bool(tokenizer.init_kwargs.get("clean_up_tokenization_spaces", True))


def check_decoding(tokenizer: PreTrainedTokenizerBase, samples: Sequence[str]) -> None:
    """Compare decoding from tokenizer.json alone with transformers'; ExportError if it differs.

    The texts are `TRIALS` and samples, halves of them (which may end within a character), and
    random tokens.
    """
    # A `decode` in Python may be equivalent, as that of CodeGen and Phi is: it is tried below.
    check_methods(tokenizer, [name for name in DECODING if name != "decode"])
    alone = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    whole = [tokenizer(text)["input_ids"] for text in (*TRIALS, *samples)]
    draw = random.Random(0)
    drawn = [[draw.randrange(len(tokenizer)) for _ in range(20)] for _ in range(20)]
    for ids in (*whole, *(row[: len(row) // 2] for row in whole), *drawn):
        for skipped in (True, False):
            expected = tokenizer.decode(
                ids, skip_special_tokens=skipped, clean_up_tokenization_spaces=False
            )
            if alone.decode(ids, skip_special_tokens=skipped) != expected:
                raise ExportError(
                    f"{type(tokenizer).__name__} spells tokens otherwise than its tokenizer.json "
                    "does alone, so that its answers cannot be served exactly; choose another model"
                )


def _spelled(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a text of all added tokens, special ones included."""
    return " a".join(each.content for each in tokenizer.added_tokens_decoder.values())


def check_tokenizer(
    tokenizer: PreTrainedTokenizerBase, folder: Path, bundle: Bundle, samples: Sequence[str]
) -> int:
    """Compare `folder`'s `tokenizer.json` with the original; return the number of comparisons.

    The texts are `TRIALS`, the tokenizer's own special tokens, samples, and pairs of them.
    ExportError names the number of a text that gets other ids or types.
    """
    texts = [*TRIALS, _spelled(tokenizer), *samples]
    saved = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    saved.no_padding()
    saved.enable_truncation(bundle.max_length, direction=bundle.truncation_side)
    typed = "token_type_ids" in bundle.inputs
    trials = [*((text, None) for text in texts), *pairwise(texts)]
    for number, (text, pair) in enumerate(trials):
        row = saved.encode(text, pair)
        expected = tokenizer(
            text, pair, truncation=True, max_length=bundle.max_length, return_token_type_ids=typed
        )
        same_types = not typed or row.type_ids == expected["token_type_ids"]
        if row.ids != expected["input_ids"] or not same_types:
            raise ExportError(
                f"the saved tokenizer.json tokenizes trial text {number} otherwise than "
                f"{type(tokenizer).__name__} does; this tokenizer cannot be served exactly"
            )
    return len(trials)

"""Guess what a wrong mode or key was meant to be: another name for it, or a slip."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from torchscript_bundle.export.tasks import TASKS

#: Least similarity (difflib's ratio, 0 to 1) of a slip to the right name, and most letters that
#: only one of them has: long names can be alike and mean different things.
NEAR, MOST_LETTERS = 0.8, 3

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


def near(name: str, known: Iterable[str], others: Mapping[str, str]) -> str | None:
    """Return the known name that a wrong one stands for; None where that would be a guess.

    `others` maps further names to the right ones.
    """
    right = {_letters(other): one for other, one in others.items()}
    right |= {_letters(one): one for one in known}
    wrong = _letters(name)
    if wrong in right:
        return right[wrong]
    close = difflib.get_close_matches(wrong, right, n=1, cutoff=NEAR)
    if not close or _letters_apart(wrong, close[0]) > MOST_LETTERS:
        return None
    return right[close[0]]


def meant_mode(mode: str) -> str | None:
    """Return the mode that is meant by another name for it, or None."""
    others = {other: name for name, task in TASKS.items() for other in task.other_names}
    return near(mode, TASKS, others)


def _letters(name: str) -> str:
    """Drop what people spell differently: case, hyphens, underscores, spaces."""
    return "".join(letter for letter in name.casefold() if letter not in "-_ ")


def _letters_apart(one: str, other: str) -> int:
    blocks = difflib.SequenceMatcher(None, other, one).get_matching_blocks()
    return len(one) + len(other) - 2 * sum(block.size for block in blocks)

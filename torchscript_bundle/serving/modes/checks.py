"""Checks that several modes make on a request's tokens."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.modes.base import Computed


def check_leaves_room(tokenizer: Tokenizer, text: str, most: int, what: str) -> None:
    """Refuses a text that takes most of each row.

    The tokenizer makes all pieces of a long text before any can be counted, each with the other
    text in it: one that left room for a token would fill the worker's memory.

    Args:
        tokenizer: the artifact's, whichever way it cuts.
        text: the text that is never cut.
        most: most tokens that it may have.
        what: what the client calls it.

    Raises:
        RequestError: 413.
    """
    try:
        count = len(tokenizer.encode(text, add_special_tokens=False).ids)
    except Exception:  # tokenizers raises bare Exception where it has to cut and must not
        count = most + 1
    if count > most:
        raise RequestError(
            413, f"{what} is over {most} tokens, half of what a row holds; send a shorter one"
        )


def check_place(token: int, windows: Sequence[Computed]) -> None:
    """Refuse a token that the first window of a text has not.

    Args:
        token: counted from 0, special tokens included.
        windows: of the text, at least one.

    Raises:
        RequestError: 422.
    """
    count = len(windows[0].row)
    if token >= count:
        window = "the text" if len(windows) == 1 else "the first window of the text"
        raise RequestError(
            422,
            f"target names a token by its place, and {window} has {count} (special tokens "
            f"included); send a place from 0 to {count - 1}",
        )

"""Checks of a request's tokens that several modes make."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.modes.base import Computed


def check_leaves_room(tokenizer: Tokenizer, text: str, most: int, what: str) -> None:
    """Refuse an uncut text that would fill most of every window of the text beside it.

    The tokenizer makes all windows before they can be counted, each with the whole uncut text: with
    room for one token of the other text, they would fill the worker's memory.

    Args:
        tokenizer: the artifact's, with any truncation.
        text: the text that is never cut.
        most: most tokens that it may have.
        what: its name in the message.

    Raises:
        RequestError: 413.
    """
    try:
        count = len(tokenizer.encode(text, add_special_tokens=False).ids)
    except Exception:  # tokenizers raises a bare Exception where its truncation cannot cut
        count = most + 1
    if count > most:
        raise RequestError(
            413, f"{what} is over {most} tokens, half of what a row holds; send a shorter one"
        )


def check_token_index(token: int, windows: Sequence[Computed]) -> None:
    """Refuse an index past the tokens (special ones included) of a text's first window.

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

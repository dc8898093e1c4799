"""Room for the text of a pair that may be cut, beside the one that every row repeats."""

from __future__ import annotations

from tokenizers import Tokenizer

from torchscript_bundle.serving.errors import RequestError


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

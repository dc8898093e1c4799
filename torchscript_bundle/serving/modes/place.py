"""Tokens that a request names by their place."""

from __future__ import annotations

from collections.abc import Sequence

from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.modes.base import Computed


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

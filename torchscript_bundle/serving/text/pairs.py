"""Whether a model may be given two texts together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.text.tokenizer import Row, TextEncoder, TextInput

TYPES = "token_type_ids"


class Runs(Protocol):
    """What runs rows, as `serving.runtime.Runtime` does."""

    def run(self, rows: Sequence[Row]) -> object:
        """Raises what the module raises."""


def no_pairs() -> RequestError:
    """For who sends two texts to a model that was not seen to take them."""
    return RequestError(422, "this model takes one text at a time; leave the second text out")


def takes_pairs(bundle: Bundle, encoder: TextEncoder, runtime: Runs, *, on_cpu: bool) -> bool:
    """Return what the export found out; of an older artifact, what one pair of words shows.

    To be asked before weights are packed. A token type that the model lacks is the only thing that
    a pair holds and a text does not: where the tokenizer gives none, or none but those of a single
    text, there is nothing to try. On a GPU nothing is tried: a wrong index there ends the process.

    Args:
        bundle: the artifact's.
        encoder: its tokenizer.
        runtime: what runs rows.
        on_cpu: where it does.
    """
    if bundle.pairs is not None:
        return bundle.pairs
    [pair], [single] = encoder.encode(("a", "a")), encoder.encode("a")
    if TYPES not in bundle.inputs or set(pair.type_ids) <= set(single.type_ids):
        return True
    if not on_cpu:
        return False
    try:
        runtime.run([pair])
    except Exception:  # whatever the module's operators raise
        return False
    return True


def check_pairs(texts: Sequence[TextInput], *, taken: bool) -> None:
    """Raises RequestError if there is a pair and none may be given."""
    if not taken and any(isinstance(text, tuple) for text in texts):
        raise no_pairs()

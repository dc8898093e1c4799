"""Whether a model takes two texts together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.text.tokenizer import Row, TextEncoder, TextInput

TYPES = "token_type_ids"


class Runs(Protocol):
    """Runs rows, as `serving.engine.runtime.Runtime` does."""

    def run(self, rows: Sequence[Row]) -> object:
        """Return outputs, or raise the module's error."""


def takes_pairs(bundle: Bundle, encoder: TextEncoder, runtime: Runs, *, on_cpu: bool) -> bool:
    """Return the export's answer; for an older artifact, whether a pair of words runs.

    Call it before packing weights. Only token types set a pair apart, and the model may lack them:
    it tries nothing where the tokenizer gives no further ones, nor on a GPU, where a wrong index
    ends the process.
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
    """Refuse a pair where the model takes none."""
    if not taken and any(isinstance(text, tuple) for text in texts):
        raise no_pairs()


def no_pairs() -> RequestError:
    """Make the error for two texts where the model takes one."""
    return RequestError(422, "this model takes one text at a time; leave the second text out")

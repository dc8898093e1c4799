"""Modes whose requests are read, and what a refused request is told."""

from __future__ import annotations

from typing import ClassVar, cast

import pytest

from tests.serving.helpers import BUNDLE
from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.protocols import find_protocol
from torchscript_bundle.serving.api.protocols.call import Call
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.modes.base import Mode
from torchscript_bundle.serving.modes.sequence_classification import SequenceClassification


class Asks:
    """A mode whose items are never a text alone, and that has no parameters."""

    item_keys = fields.named(fields.Text("question", ""), fields.Text("context", ""))
    parameters = ()
    offers: ClassVar[dict[str, object]] = {}


class Tells:
    """A mode with two parameters."""

    item_keys = fields.named(fields.TEXT)
    parameters = ("top_k", "stride")
    offers: ClassVar[dict[str, object]] = {}


TEXTS: Mode = SequenceClassification(BUNDLE)
ASKS = cast(Mode, Asks())
TELLS = cast(Mode, Tells())
#: What is said of parameters that the first of them lacks, or that are no object.
KNOWN_OF_TEXTS = "known are " + ", ".join(f'"parameters.{name}"' for name in TEXTS.parameters)
OBJECT_OF_TEXTS = "parameters must be an object, with " + " or ".join(TEXTS.parameters)


def call(payload: object, mode: Mode = TEXTS) -> Call:
    """The call that a payload is read as."""
    read = find_protocol(payload, mode.offers).read(payload, mode, "tiny")
    assert isinstance(read, Call)
    return read


def refusal(payload: object, mode: Mode = TEXTS) -> str:
    """What a payload that is refused is told; it never repeats what was sent."""
    with pytest.raises(RequestError) as caught:
        call(payload, mode)
    assert caught.value.status == 422
    assert "secret" not in caught.value.message
    return caught.value.message

"""Modes whose requests are read, and what a refused request is told."""

from __future__ import annotations

from typing import cast

import pytest

from tests.serving.helpers import BUNDLE
from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.protocols import read_call
from torchscript_bundle.serving.api.protocols.call import Call
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.modes.base import Mode
from torchscript_bundle.serving.modes.sequence_classification import SequenceClassification


class Asks:
    """A mode whose items are never a text alone, and that has no parameters."""

    item_keys = fields.named(fields.Text("question", ""), fields.Text("context", ""))
    parameters = ()


class Tells:
    """A mode with two parameters."""

    item_keys = fields.named(fields.TEXT)
    parameters = ("top_k", "stride")


TEXTS: Mode = SequenceClassification(BUNDLE)
ASKS = cast(Mode, Asks())
TELLS = cast(Mode, Tells())


def call(payload: object, mode: Mode = TEXTS) -> Call:
    """The call that a payload is read as."""
    return read_call(payload, mode, "tiny")


def refusal(payload: object, mode: Mode = TEXTS) -> str:
    """What a payload that is refused is told; it never repeats what was sent."""
    with pytest.raises(RequestError) as caught:
        call(payload, mode)
    assert caught.value.status == 422
    assert "secret" not in caught.value.message
    return caught.value.message

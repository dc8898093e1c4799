"""What a request for an explanation may hold, and what its answer does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.fields import Field
from torchscript_bundle.serving.api.json_schema import (
    COUNT,
    NUMBER,
    STRING,
    TRUE,
    JsonSchema,
    array,
    record,
)
from torchscript_bundle.serving.api.protocols.call import Call
from torchscript_bundle.serving.modes.base import Mode

LEAST_STEPS = 2
JSON, HTML = "json", "html"

_SPAN: dict[str, JsonSchema] = {"start": COUNT, "end": COUNT}
_TOKEN = record({"token": STRING, **_SPAN, "importance": NUMBER}, {"of": STRING})
#: What `answer.describe` gives.
EXPLANATION = record(
    {
        "target": STRING,
        "output": NUMBER,
        "baseline_output": NUMBER,
        "delta": NUMBER,
        "tokens": array(_TOKEN),
    },
    {"at": record(_SPAN), "truncated": TRUE},
)


@dataclass(frozen=True)
class ExplainedForm:
    """What a request may hold, as a mode says what one for an answer may.

    Attributes:
        item_keys: those of the mode, and the target's, which may differ from item to item.
        parameters: those of the mode, and those of the explanation.
        own: of them, those that every mode's explanations have.
        target: of them, those that say what is explained.
    """

    item_keys: Mapping[str, Field]
    parameters: Mapping[str, Field]
    own: Mapping[str, Field]
    target: Mapping[str, Field]

    def for_inference_client(self, call: Call) -> Call:
        """Return the call: that client asks for no explanations."""
        return call


def explained_form(mode: Mode, most_steps: int) -> ExplainedForm:
    """The form of a mode's explanations.

    Args:
        mode: the model's.
        most_steps: of the integration, and the default.
    """
    own = fields.named(
        fields.Whole(
            "n_steps",
            "Steps of the integration; fewer are faster and less exact.",
            least=LEAST_STEPS,
            most=most_steps,
            default=most_steps,
        ),
        fields.Choice("format", "JSON, or a page.", choices=(JSON, HTML), default=JSON),
    )
    target = mode.target_parameters
    parameters = {**mode.parameters, **target, **own}
    return ExplainedForm({**mode.item_keys, **target}, parameters, own, target)

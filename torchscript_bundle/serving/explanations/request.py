"""The fields of a request for explanations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.fields import Field
from torchscript_bundle.serving.api.protocols.call import Call, Offer
from torchscript_bundle.serving.modes.base import Mode

LEAST_STEPS = 2
JSON, HTML = "json", "html"


@dataclass(frozen=True)
class ExplanationFields:
    """The fields of a mode's requests: `own` are those of every mode, `target` name the target."""

    item_keys: Mapping[str, Field]
    parameters: Mapping[str, Field]
    own: Mapping[str, Field]
    target: Mapping[str, Field]
    offers: Mapping[Offer, Mapping[str, object]] = field(default_factory=dict)

    def for_inference_client(self, call: Call) -> Call:
        """Return the call unchanged: that client asks for no explanations."""
        return call


def explanation_fields(mode: Mode, most_steps: int) -> ExplanationFields:
    """Return the fields of a mode's explanations; `most_steps` is the bound and the default."""
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
    return ExplanationFields({**mode.item_keys, **target}, parameters, own, target)

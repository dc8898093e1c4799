"""The table of generation parameters, and the settings of one generated answer.

To add a parameter, add a field to `Settings` and its step to `jit.generation.sampler.Sampler`.
"""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import torch

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import JsonSchema, array
from torchscript_bundle.serving.errors import RequestError

logger = logging.getLogger(__name__)

MOST_STOPS = 4
LONGEST_STOP = 200
#: A lower temperature counts as 0, which takes the best token each time.
LEAST_TEMPERATURE = 1e-5


@dataclass(frozen=True)
class Stops(fields.Field):
    """A list of stop strings, white space allowed; `single` allows a string for a list of one."""

    _: KW_ONLY
    single: bool = False

    def check(self, value: object) -> tuple[str, ...]:
        if self.single and isinstance(value, str):
            value = [value]
        if not isinstance(value, list) or len(value) > MOST_STOPS or not all(map(_can_stop, value)):
            raise RequestError(
                422,
                f"{self.name} must be a list of at most {MOST_STOPS} strings of 1 to "
                f"{LONGEST_STOP} characters",
            )
        return tuple(value)

    def bounds(self) -> JsonSchema:
        each = {"type": "string", "minLength": 1, "maxLength": LONGEST_STOP}
        return array(each, maxItems=MOST_STOPS)


def _can_stop(value: object) -> bool:
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_STOP:
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


@dataclass(frozen=True)
class Parameter:
    """One entry of the table.

    Attributes:
        field: name, bounds and description, as transformers' clients send it.
        dtype: of the `[batch]` tensor of this name for `Generator.sample`; None if it takes none.
        implies_sampling: whether a request with it is sampled unless it says otherwise.
        openai: attributes of `field` that differ in OpenAI's API; None if it has no such field.
    """

    field: fields.Field
    dtype: torch.dtype | None = None
    implies_sampling: bool = False
    openai: Mapping[str, Any] | None = None


def _parameter(neutral: object, field: fields.Field, **rest: Any) -> Any:
    """Declare a field of `Settings` as a parameter with its neutral value as default."""
    return dataclasses.field(default=neutral, metadata={"parameter": Parameter(field, **rest)})


@dataclass(frozen=True)
class Settings:
    """How one answer is generated: the table of parameters. Every default is neutral.

    `max_new_tokens` None means the artifact's default, or less where the prompt leaves less room;
    `keep_stop` includes the stop string in the answer that it ends.
    """

    max_new_tokens: int | None = _parameter(
        None,
        fields.Whole("max_new_tokens", "Most tokens of the answer.", least=1),
        openai={"name": "max_tokens", "aliases": ("max_completion_tokens",)},
    )
    do_sample: bool = _parameter(
        False,
        fields.Boolean("do_sample", "Draw the tokens; else the best one is taken each time."),
        dtype=torch.bool,
    )
    # The temperature divides logits, and the penalty divides or multiplies them. These bounds keep
    # every model's logits finite in float32.
    temperature: float = _parameter(
        1.0,
        fields.Number(
            "temperature",
            "Divides the logits: the lower, the likelier are likely tokens; 0 takes the best one.",
            least=0,
            most=100.0,
        ),
        dtype=torch.float64,
        implies_sampling=True,
        openai={"most": 2, "default": 1.0},
    )
    top_k: int = _parameter(
        0,
        fields.Whole(
            "top_k", "Draw from this many tokens, the best; 0 for all.", least=0, most=1_000_000
        ),
        dtype=torch.int64,
        implies_sampling=True,
        openai={},
    )
    top_p: float = _parameter(
        1.0,
        fields.Number(
            "top_p",
            "Draw from the best tokens that have this share of the probability together; 0 takes "
            "the best one.",
            least=0,
            most=1,
        ),
        dtype=torch.float64,
        implies_sampling=True,
        openai={},
    )
    repetition_penalty: float = _parameter(
        1.0,
        fields.Number(
            "repetition_penalty",
            "Above 1, tokens that are there already are less likely.",
            least=0.01,
            most=100.0,
        ),
        dtype=torch.float64,
        openai={},
    )
    seed: int = _parameter(
        0,
        fields.Whole("seed", "The same seed gives the same text.", least=0, most=2**63 - 1),
        openai={},
    )
    stop: tuple[str, ...] = _parameter(
        (),
        Stops("stop", "Strings that end the answer, which holds them.", default=()),
        openai={"single": True},
    )
    keep_stop: bool = True


PARAMETERS: dict[str, Parameter] = {
    each.name: each.metadata["parameter"]
    for each in dataclasses.fields(Settings)
    if "parameter" in each.metadata
}
#: Arguments of `Generator.sample` that have a value for each row.
COLUMNS = {name: each.dtype for name, each in PARAMETERS.items() if each.dtype is not None}
#: Values of a model's generation config that change nothing.
NEUTRAL: dict[str, bool | int | float] = {name: getattr(Settings(), name) for name in COLUMNS}


def sampling_fields(most_new: int) -> dict[str, fields.Field]:
    """Return the field of each parameter; `most_new` bounds `max_new_tokens`."""
    known = {name: each.field for name, each in PARAMETERS.items()}
    limited: Any = known["max_new_tokens"]
    return {**known, "max_new_tokens": replace(limited, most=most_new)}


def openai_fields(most_new: int) -> dict[str, fields.Field]:
    """Return the fields of OpenAI's API by the names of their parameters here."""
    known: dict[str, Any] = sampling_fields(most_new)
    return {
        name: replace(known[name], **each.openai)
        for name, each in PARAMETERS.items()
        if each.openai is not None
    }


def wrong_defaults(defaults: Mapping[str, Any]) -> dict[str, str]:
    """Return an error for each default of the model that no request could send."""
    wrong = {}
    for name, neutral in NEUTRAL.items():
        try:
            PARAMETERS[name].field.check(value := defaults.get(name, neutral))
        except RequestError as error:
            wrong[name] = f"{error.message}, and is {value!r}"
    return wrong


def usable_defaults(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's defaults, neutral where an older archive has wrong ones or none."""
    wrong = wrong_defaults(defaults)
    for name, sentence in wrong.items():
        logger.warning("the model's own settings: %s; taken as %s", sentence, NEUTRAL[name])
    return {**NEUTRAL, **defaults, **{name: NEUTRAL[name] for name in wrong}}


def make_settings(
    values: Mapping[str, Any], defaults: Mapping[str, Any], *, keep_stop: bool = True
) -> Settings:
    """Make settings of a request's checked `values` (None: left out) and the model's `defaults`."""
    given = {name: value for name in PARAMETERS if (value := values[name]) is not None}
    chosen: dict[str, Any] = {"seed": random.getrandbits(32), **defaults, **given}
    if "do_sample" not in given:
        implied = any(PARAMETERS[name].implies_sampling for name in given)
        chosen["do_sample"] = implied or bool(defaults["do_sample"])
    if chosen["temperature"] < LEAST_TEMPERATURE or chosen["top_p"] == 0:
        chosen |= {"do_sample": False, "temperature": 1.0, "top_p": 1.0}
    return Settings(**chosen, keep_stop=keep_stop)

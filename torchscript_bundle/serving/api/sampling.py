"""How an answer is to be written: what a request may say of it, with its bounds."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.json_schema import JsonSchema, array
from torchscript_bundle.serving.errors import RequestError

logger = logging.getLogger(__name__)

MOST_STOPS = 4
LONGEST_STOP = 200
#: Logits are divided by the temperature, and divided or multiplied by the penalty. Within these
#: bounds those of no model become infinite in float32.
MOST_TEMPERATURE = 100.0
LEAST_PENALTY, MOST_PENALTY = 0.01, 100.0
#: A temperature below is taken for 0, which takes the best token each time.
LEAST_TEMPERATURE = 1e-5
MOST_TOP_K = 1_000_000
MOST_SEED = 2**63 - 1
#: The model's own settings that say nothing.
NEUTRAL: dict[str, bool | int | float] = {
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
}
#: A request that gives one of these wants to be sampled, unless it says otherwise.
SAMPLING = ("temperature", "top_k", "top_p")


@dataclass(frozen=True)
class Settings:
    """How one answer is written.

    Attributes:
        max_new_tokens: most tokens of it; None for as many as the artifact's default and the room
            after the prompt allow.
        do_sample: false takes the best token each time.
        temperature: divides the logits; at least `LEAST_TEMPERATURE`.
        top_k: how many tokens are drawn from; 0 for all.
        top_p: share of the probability that is drawn from; above 0, at most 1.
        repetition_penalty: of tokens that are there already, in its bounds; 1 for none.
        seed: of the draws; the same seed gives the same text.
        stop: strings that end the answer.
        keep_stop: whether the answer holds the one that ended it.
    """

    max_new_tokens: int | None
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    seed: int
    stop: tuple[str, ...] = ()
    keep_stop: bool = True


@dataclass(frozen=True)
class Stops(fields.Field):
    """A list of strings, white space allowed."""

    _: KW_ONLY
    most: int = MOST_STOPS

    def check(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) > self.most or not all(map(_can_stop, value)):
            raise RequestError(
                422,
                f"{self.name} must be a list of at most {self.most} strings of 1 to {LONGEST_STOP} "
                "characters",
            )
        return tuple(value)

    def bounds(self) -> JsonSchema:
        each = {"type": "string", "minLength": 1, "maxLength": LONGEST_STOP}
        return array(each, maxItems=self.most)


def _can_stop(value: object) -> bool:
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_STOP:
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def sampling_fields(most_new: int) -> dict[str, fields.Field]:
    """What a request may say of the tokens, in the words of transformers; checks and bounds.

    Args:
        most_new: most tokens of an answer.
    """
    return fields.named(
        fields.Whole("max_new_tokens", "Most tokens of the answer.", least=1, most=most_new),
        fields.Boolean("do_sample", "Draw the tokens; else the best one is taken each time."),
        fields.Number(
            "temperature",
            "Divides the logits: the lower, the likelier are likely tokens; 0 takes the best one.",
            least=0,
            most=MOST_TEMPERATURE,
        ),
        fields.Whole(
            "top_k", "Draw from this many tokens, the best; 0 for all.", least=0, most=MOST_TOP_K
        ),
        fields.Number(
            "top_p",
            "Draw from the best tokens that have this share of the probability together; 0 takes "
            "the best one.",
            least=0,
            most=1,
        ),
        fields.Number(
            "repetition_penalty",
            "Above 1, tokens that are there already are less likely.",
            least=LEAST_PENALTY,
            most=MOST_PENALTY,
        ),
        fields.Whole("seed", "The same seed gives the same text.", least=0, most=MOST_SEED),
        Stops("stop", "Strings that end the answer, which holds them.", default=()),
    )


def wrong_defaults(defaults: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a model's own settings: a sentence for each name.

    Args:
        defaults: by the names of `NEUTRAL`.
    """
    known, wrong = sampling_fields(1), {}
    for name in NEUTRAL:
        try:
            known[name].check(defaults[name])
        except RequestError as error:
            wrong[name] = f"{error.message}, and is {defaults[name]!r}"
    return wrong


def usable_defaults(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A model's own settings; of an older archive, with what is neutral where they are wrong."""
    wrong = wrong_defaults(defaults)
    for name, sentence in wrong.items():
        logger.warning("the model's own settings: %s; taken as %s", sentence, NEUTRAL[name])
    return {**defaults, **{name: NEUTRAL[name] for name in wrong}}


def make_settings(
    values: Mapping[str, Any], defaults: Mapping[str, Any], *, keep_stop: bool = True
) -> Settings:
    """Settings of checked values; None is what the request left out.

    Args:
        values: by the names of `sampling_fields`; more are no error.
        defaults: the model's own, by the same names.
        keep_stop: see `Settings`.
    """
    do_sample = values["do_sample"]
    if do_sample is None:
        asked = any(values[name] is not None for name in SAMPLING)
        do_sample = asked or bool(defaults["do_sample"])

    def given(name: str) -> Any:
        return defaults[name] if values[name] is None else values[name]

    seed, temperature, top_p = values["seed"], float(given("temperature")), float(given("top_p"))
    if temperature < LEAST_TEMPERATURE or top_p == 0:
        do_sample, temperature, top_p = False, 1.0, 1.0
    return Settings(
        max_new_tokens=values["max_new_tokens"],
        do_sample=do_sample,
        temperature=temperature,
        top_k=int(given("top_k")),
        top_p=top_p,
        repetition_penalty=float(given("repetition_penalty")),
        seed=random.getrandbits(32) if seed is None else seed,
        stop=values["stop"],
        keep_stop=keep_stop,
    )

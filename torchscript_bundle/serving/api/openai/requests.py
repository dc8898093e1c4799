"""Requests of OpenAI's clients (https://platform.openai.com/docs/api-reference)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.http import Client
from torchscript_bundle.serving.api.openai.messages import (
    MESSAGES,
    Neutral,
    check_neutral,
    read_messages,
)
from torchscript_bundle.serving.api.sampling import Settings, make_settings, openai_fields
from torchscript_bundle.serving.api.values import check_keys, check_model, check_text, without_nulls
from torchscript_bundle.serving.errors import RequestError

#: Unsupported fields -> values that clients may send all the same: OpenAI's defaults.
NEUTRAL: Neutral = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "suffix": ("",),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    # A list where huggingface_hub sends it.
    "logit_bias": ({}, []),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "moderation": (),
    "reasoning_effort": (),
    "verbosity": ("medium",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "web_search_options": (),
    # Without tools there is nothing to choose, and nothing to do in parallel.
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "tool_prompt": ("",),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
}
#: For completions, where `logprobs` is a number and 0 asks for those of the generated tokens.
COMPLETION_NEUTRAL: Neutral = {**NEUTRAL, "logprobs": ()}
STREAM_NEUTRAL: Neutral = {"include_obfuscation": (False,)}
#: Fields that do not change the answer: who asks, what to cache, a guess that speeds it up.
IGNORED = (
    *("user", "metadata", "safety_identifier", "prediction"),
    *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
)
NOT_HERE = "this server has no {name}; leave it out"


@dataclass(frozen=True)
class Completion:
    """A parsed request: `prompts` or `messages`; `usage` asks for token counts in a stream."""

    prompts: list[str]
    messages: list[dict[str, str]]
    settings: list[Settings]
    stream: bool
    usage: bool


class CompletionParser:
    """Parses requests to one model; an empty name accepts any."""

    def __init__(self, most_new: int, defaults: Mapping[str, Any], model_name: str) -> None:
        self._fields = openai_fields(most_new)
        names = (name for field in self._fields.values() for name in field.names)
        self._known = ("model", "stream", "stream_options", *names, *NEUTRAL, *IGNORED)
        self._defaults = defaults
        self._model_name = model_name

    def read(self, payload: object, chat: bool, client: Client) -> Completion:
        """Parse a request; only huggingface_hub's clients may name another model."""
        key = MESSAGES if chat else "prompt"
        if not isinstance(payload, dict):
            raise RequestError(422, f'send an object: {{"model": "...", "{key}": ...}}')
        check_keys(payload, (key, *self._known))
        given = without_nulls(payload)
        check_neutral(given, NEUTRAL if chat else COMPLETION_NEUTRAL, NOT_HERE)
        if client != "huggingface_hub":
            check_model(given.get("model", self._model_name), self._model_name)
        messages = read_messages(given.get(MESSAGES)) if chat else []
        prompts = [] if chat else _prompts(given.get("prompt"))
        first = self._settings(given)
        # Each prompt has draws of its own.
        seeds = [(first.seed + at) % 2**63 for at in range(max(1, len(prompts)))]
        return Completion(
            prompts,
            messages,
            [replace(first, seed=seed) for seed in seeds],
            fields.Boolean("stream", "").check(given.get("stream", False)),
            _counts_usage(given.get("stream_options", {})),
        )

    def _settings(self, given: Mapping[str, Any]) -> Settings:
        read = fields.read_values(self._fields, given)
        values = {name: read[field.name] for name, field in self._fields.items()}
        # Clients of OpenAI's take the best token by a temperature of 0.
        return make_settings({**values, "do_sample": True}, self._defaults, keep_stop=False)


def _counts_usage(options: object) -> bool:
    if not isinstance(options, dict):
        raise RequestError(422, "stream_options must be an object")
    check_keys(options, ("include_usage", *STREAM_NEUTRAL), where="stream_options.")
    check_neutral(options, STREAM_NEUTRAL, NOT_HERE)
    wanted = options.get("include_usage")
    return False if wanted is None else fields.Boolean("include_usage", "").check(wanted)


def _prompts(value: object) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise RequestError(422, "prompt is an empty list; send a text")
    return [check_text(text, "the prompt") for text in texts]

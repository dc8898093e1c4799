"""What OpenAI's clients send: chat completions and completions.

Source: https://platform.openai.com/docs/api-reference
"""

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
from torchscript_bundle.serving.api.sampling import (
    Settings,
    Stops,
    make_settings,
    sampling_fields,
)
from torchscript_bundle.serving.api.values import check_keys, check_text
from torchscript_bundle.serving.errors import RequestError

#: What a client may send where it asks for nothing by it: what OpenAI does where it is left out.
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
#: The same of completions, where `logprobs` is a number and 0 asks for those of the tokens written.
COMPLETION_NEUTRAL: Neutral = {**NEUTRAL, "logprobs": ()}
STREAM_NEUTRAL: Neutral = {"include_obfuscation": (False,)}
#: What says nothing of the answer: who asks, what to keep for later, a guess that makes it faster.
IGNORED = (
    *("user", "metadata", "safety_identifier", "prediction"),
    *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
)
OWN = (
    *("model", "stream", "stream_options", "temperature", "top_p", "seed", "stop", "max_tokens"),
    *("max_completion_tokens", "top_k", "repetition_penalty"),
)
NOT_HERE = "this server has no {name}; leave it out"


@dataclass(frozen=True)
class Completion:
    """What a client asks for.

    Attributes:
        prompts: the texts to go on from; of a chat, the messages instead.
        messages: of a chat.
        settings: how each answer is written.
        stream: whether it comes in events.
        usage: whether the last event counts the tokens.
    """

    prompts: list[str]
    messages: list[dict[str, str]]
    settings: list[Settings]
    stream: bool
    usage: bool


class CompletionForm:
    """Reads requests.

    Args:
        most_new: most tokens of an answer.
        defaults: the model's own settings.
        model_name: what the model is called in URLs; empty takes any.
    """

    def __init__(self, most_new: int, defaults: Mapping[str, Any], model_name: str) -> None:
        known = sampling_fields(most_new)
        self._fields = {
            **{name: known[name] for name in ("top_k", "top_p", "repetition_penalty", "seed")},
            "max_tokens": replace(known["max_new_tokens"], name="max_tokens"),
            "temperature": fields.Number("temperature", "", least=0, most=2),
        }
        self._stops = Stops("stop", "", default=())
        self._defaults = defaults
        self._model_name = model_name

    def read(self, payload: object, chat: bool, client: Client) -> Completion:
        """What a request asks for.

        Args:
            payload: parsed JSON.
            chat: whether it has messages, or a prompt.
            client: huggingface_hub's names a model of its own invention.

        Raises:
            RequestError: 422 for a wrong form; 404 for another model.
        """
        key = MESSAGES if chat else "prompt"
        if not isinstance(payload, dict):
            raise RequestError(422, f'send an object: {{"model": "...", "{key}": ...}}')
        check_keys(payload, (key, *OWN, *NEUTRAL, *IGNORED))
        given = {name: value for name, value in payload.items() if value is not None}
        check_neutral(given, NEUTRAL if chat else COMPLETION_NEUTRAL, NOT_HERE)
        named = given.get("model", self._model_name)
        if self._model_name and named != self._model_name and client != "huggingface_hub":
            raise RequestError(404, f"this address serves {self._model_name}; send that as model")
        messages = read_messages(given.get(MESSAGES)) if chat else []
        prompts = [] if chat else _prompts(given.get("prompt"))
        settings = [self._settings(given, at) for at in range(max(1, len(prompts)))]
        return Completion(
            prompts,
            messages,
            settings,
            fields.Boolean("stream", "").check(given.get("stream", False)),
            _counts_usage(given.get("stream_options", {})),
        )

    def _settings(self, given: Mapping[str, Any], at: int) -> Settings:
        """Those of one of several prompts: each has draws of its own."""
        if "max_tokens" in given and "max_completion_tokens" in given:
            raise RequestError(422, "max_tokens and max_completion_tokens are the same; send one")
        named = {**given, "max_tokens": given.get("max_completion_tokens", given.get("max_tokens"))}
        values = {
            name: None if named.get(name) is None else field.check(named[name])
            for name, field in self._fields.items()
        }
        stop = given.get("stop", [])
        temperature = 1.0 if values["temperature"] is None else values["temperature"]
        values |= {
            "stop": self._stops.check([stop] if isinstance(stop, str) else stop),
            "max_new_tokens": values["max_tokens"],
            "do_sample": temperature > 0,
            "temperature": temperature or 1.0,
        }
        settings = make_settings(values, self._defaults, keep_stop=False)
        return settings if at == 0 else replace(settings, seed=(settings.seed + at) % 2**63)


def _counts_usage(options: object) -> bool:
    """Return what `stream_options` say."""
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

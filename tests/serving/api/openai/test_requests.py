"""Every field of the openai package's own request and message types, walked.

A key that a newer openai adds fails here until it is put into one of the tables below, with what a
client asks for nothing by.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

import pytest
from huggingface_hub import ChatCompletionInput, ChatCompletionInputMessage
from huggingface_hub import ChatCompletionOutputMessage as HubMessage
from openai._types import SequenceNotStr
from openai.types import completion_create_params as completion
from openai.types.chat import (
    ChatCompletionContentPartParam,
    ChatCompletionMessage,
    ChatCompletionMessageParam,
    ChatCompletionStreamOptionsParam,
    completion_create_params,
)
from openai.types.chat.chat_completion_assistant_message_param import ContentArrayOfContentPart
from typing_extensions import get_type_hints, is_typeddict

from tests.export.generation.helpers import MAX_LENGTH
from torchscript_bundle.serving.api.openai.requests import Completion, CompletionParser
from torchscript_bundle.serving.errors import RequestError

#: Settled by the field's own checks, or of no matter to the answer.
READ, IGNORED = "read", "ignored"
Table = Mapping[str, Any]

#: name -> READ, IGNORED, or the values that ask for nothing; null always does.
CHAT: Table = {
    **dict.fromkeys(("messages", "model", "stream", "stream_options", "temperature"), READ),
    **dict.fromkeys(("top_p", "seed", "stop", "max_tokens", "max_completion_tokens"), READ),
    **dict.fromkeys(("user", "metadata", "safety_identifier", "prediction"), IGNORED),
    **dict.fromkeys(("prompt_cache_key", "prompt_cache_retention"), IGNORED),
    "prompt_cache_options": IGNORED,
    "audio": [],
    "frequency_penalty": [0, 0.0],
    "function_call": ["none", "auto"],
    "functions": [[]],
    "logit_bias": [{}, []],
    "logprobs": [False],
    "modalities": [["text"]],
    "moderation": [],
    "n": [1],
    "parallel_tool_calls": [True, False],
    "presence_penalty": [0, 0.0],
    "reasoning_effort": [],
    "response_format": [{"type": "text"}],
    "service_tier": ["auto", "default"],
    "store": [False],
    "tool_choice": ["none", "auto"],
    "tools": [[]],
    "top_logprobs": [0],
    "verbosity": ["medium"],
    "web_search_options": [],
    "tool_prompt": [""],  # of huggingface_hub
}
COMPLETION: Table = {
    **dict.fromkeys(("prompt", "model", "stream", "stream_options", "temperature"), READ),
    **dict.fromkeys(("top_p", "seed", "stop", "max_tokens"), READ),
    "user": IGNORED,
    "best_of": [1],
    "echo": [False],
    "frequency_penalty": [0, 0.0],
    "logit_bias": [{}, []],
    "logprobs": [],
    "n": [1],
    "presence_penalty": [0, 0.0],
    "suffix": [""],
}
STREAM_OPTIONS: Table = {"include_usage": READ, "include_obfuscation": [False]}
MESSAGE: Table = {
    **dict.fromkeys(("role", "content", "name"), READ),
    "refusal": [""],
    "annotations": [[]],
    "audio": [],
    "function_call": [],
    "tool_calls": [[]],
    "tool_call_id": [],
    "reasoning": [""],  # of huggingface_hub
}

USER = {"role": "user", "content": "a"}
DEFAULTS = {"do_sample": False, "temperature": 1, "top_k": 0, "top_p": 1, "repetition_penalty": 1}
PARSER = CompletionParser(MAX_LENGTH - 1, DEFAULTS, "m")


def read(chat: bool, **given: Any) -> Completion:
    base: dict[str, Any] = {"messages": [USER]} if chat else {"prompt": "a"}
    return PARSER.read({**base, "model": "m", **given}, chat, "http")


def read_message(**given: Any) -> Completion:
    return read(True, messages=[USER, {"role": "assistant", "content": "b", **given}])


def read_options(**given: Any) -> Completion:
    return read(True, stream=True, stream_options=given)


def hints(kind: Any) -> dict[str, Any]:
    """The fields of a type of either package, with what each may be."""
    if is_typeddict(kind) or dataclasses.is_dataclass(kind):
        return get_type_hints(kind, include_extras=True)
    return {name: field.annotation for name, field in kind.model_fields.items()}


def examples(kind: Any) -> list[Any]:
    """Values of a type, as JSON has them."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if origin in (Required, NotRequired, Annotated):
        return examples(arguments[0])
    if origin in (Union, types.UnionType):
        return [each for one in arguments for each in examples(one)]
    if origin is Literal:
        return [*arguments]
    if origin is dict:
        return [{"a": each} for each in examples(arguments[1])]
    if origin is SequenceNotStr or (origin and issubclass(origin, collections.abc.Iterable)):
        return [[each] for each in examples(arguments[0])]
    members = {name: examples(each)[0] for name, each in hints(kind).items()}
    needed = [name for name, each in hints(kind).items() if get_origin(each) is Required]
    return [members, *([{name: members[name] for name in needed}] if needed else [])]


PLAIN: dict[Any, list[Any]] = {
    type(None): [None],
    bool: [True, False],
    int: [0, 1, 2],
    float: [0, 0.0, 0.5, 1],
    str: ["x"],
    object: ["x"],
    Any: ["x"],
}

CASES = [
    *((CHAT, kind) for kind in get_args(completion_create_params.CompletionCreateParams)),
    *((COMPLETION, kind) for kind in get_args(completion.CompletionCreateParams)),
    (CHAT, ChatCompletionInput),
    (STREAM_OPTIONS, ChatCompletionStreamOptionsParam),
    *((MESSAGE, kind) for kind in get_args(ChatCompletionMessageParam)),
    (MESSAGE, ChatCompletionMessage),
    (MESSAGE, ChatCompletionInputMessage),
    (MESSAGE, HubMessage),
]
#: One for each field of each type: the table, the field, what it may be.
FIELDS = [
    pytest.param(table, name, kind, id=f"{each.__module__}.{each.__name__}.{name}")
    for table, each in CASES
    for name, kind in hints(each).items()
]


def send(table: Table, name: str, value: Any) -> None:
    """Reads a request that has the value, and nothing else that is odd.

    Raises:
        RequestError: it is refused.
    """
    if table is MESSAGE:
        read_message(**{name: value})
    elif table is STREAM_OPTIONS:
        read_options(**{name: value})
    else:
        read(table is CHAT, **{name: value})


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


@pytest.mark.parametrize(("table", "name", "kind"), FIELDS)
def test_field_is_taken_where_it_asks_for_nothing_and_named_where_it_does(
    table: Table, name: str, kind: Any
) -> None:
    assert name in table, f"{name} is new: say in the table what asks for nothing by it"
    asks_nothing = table[name]
    if name not in ("messages", "prompt", "role", "content"):
        send(table, name, None)
    if asks_nothing == READ:
        return
    neutral = [] if asks_nothing == IGNORED else asks_nothing
    for value in neutral:
        send(table, name, value)
    for value in examples(kind):
        if asks_nothing == IGNORED or value is None:
            send(table, name, value)
        elif not any(same(value, each) for each in neutral):
            with pytest.raises(RequestError, match=f"this server has no {name}; leave it out"):
                send(table, name, value)


@pytest.mark.parametrize("table", [CHAT, COMPLETION, STREAM_OPTIONS])
def test_true_is_not_one_and_false_not_zero(table: Table) -> None:
    tried = 0
    for name, values in table.items():
        for value in [] if values in (READ, IGNORED) else values:
            for twin in (bool(value), int(value)) if isinstance(value, bool | int | float) else ():
                if any(same(twin, each) for each in values):
                    continue
                with pytest.raises(RequestError, match=f"no {name};"):
                    send(table, name, twin)
                tried += 1
    assert tried


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("stream", each) for each in (0, 1, "true", [])],
        *[("temperature", each) for each in (True, False, "1")],
        *[("top_p", each) for each in (True, "1")],
        *[("seed", each) for each in (True, 1.0, "1")],
        *[("max_tokens", each) for each in (True, 1.0, "1")],
        *[("top_k", each) for each in (True, False)],
        *[("repetition_penalty", each) for each in (True, "1")],
        *[("stop", each) for each in (True, 0, [1])],
        *[("stream_options", each) for each in (True, 0, [], {"include_usage": 1})],
    ],
)
def test_value_of_another_type_is_refused(name: str, value: Any) -> None:
    for chat in (True, False):
        with pytest.raises(RequestError, match=f"{name}|include_usage"):
            read(chat, **{name: value})


def test_completions_do_not_take_logprobs_of_nothing() -> None:
    """There 0 asks for those of the tokens that are written; of a chat, false for none."""
    for value in (0, 1, False, True):
        with pytest.raises(RequestError, match="no logprobs;"):
            read(False, logprobs=value)


@pytest.mark.parametrize("kind", get_args(ContentArrayOfContentPart))
def test_parts_of_an_answer(kind: Any) -> None:
    for part in examples(kind):
        if part["type"] == "text":
            assert read_message(content=[part]).messages[1]["content"] == "x"
        else:
            with pytest.raises(RequestError, match="has a part that is no text"):
                read_message(content=[part])


@pytest.mark.parametrize("kind", get_args(ChatCompletionContentPartParam))
def test_parts_of_a_question(kind: Any) -> None:
    for part in examples(kind):
        message = {"role": "user", "content": [part]}
        if part["type"] == "text":
            assert read(True, messages=[message]).messages == [USER | {"content": "x"}]
        else:
            with pytest.raises(RequestError, match="has a part that is no text"):
                read(True, messages=[message])


@pytest.mark.parametrize("kind", get_args(ChatCompletionMessageParam))
def test_roles(kind: Any) -> None:
    [role] = examples(hints(kind)["role"])
    message = {"role": role, "content": "a"}
    if role in ("tool", "function"):
        with pytest.raises(RequestError, match="the role of message 0 must be one of"):
            read(True, messages=[message])
    else:
        assert read(True, messages=[message]).messages == [message]


@pytest.mark.parametrize("role", ["system", "developer", "assistant"])
@pytest.mark.parametrize("content", ["", " ", [], [{"type": "text", "text": ""}]])
def test_who_may_say_nothing(role: str, content: Any) -> None:
    said = read(True, messages=[{"role": role, "content": content}, USER]).messages
    assert said[0]["content"].strip() == ""


def test_null_is_the_content_of_an_answer_alone() -> None:
    assert read_message(content=None).messages[1] == {"role": "assistant", "content": ""}
    for role in ("user", "system"):
        with pytest.raises(RequestError, match="the content of message 0 is null"):
            read(True, messages=[{"role": role, "content": None}])
    with pytest.raises(RequestError, match="the content of message 0 is empty"):
        read(True, messages=[{"role": "user", "content": ""}])


def test_name_is_for_the_template() -> None:
    assert read_message(name="ada").messages[1]["name"] == "ada"
    for wrong in (5, "", "\ud800"):
        with pytest.raises(RequestError, match="the name of message 1"):
            read_message(name=wrong)

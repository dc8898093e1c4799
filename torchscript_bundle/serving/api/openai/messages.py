"""Messages of a chat (https://platform.openai.com/docs/api-reference/chat)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torchscript_bundle.serving.api.json_schema import STRING, array, either, record
from torchscript_bundle.serving.api.values import check_keys, check_text, type_name
from torchscript_bundle.serving.errors import RequestError

#: The name of an unsupported field -> values, beside null, that may be sent.
Neutral = Mapping[str, Sequence[object]]


def check_neutral(given: Mapping[str, object], neutral: Neutral, sentence: str) -> None:
    """Refuse unsupported fields with any other value; `sentence` is the error about `{name}`."""
    for name, values in neutral.items():
        value = given.get(name)
        if value is not None and not any(_same(value, each) for each in values):
            raise RequestError(422, sentence.format(name=name))


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other  # in Python, true is 1 and false is 0


MESSAGES = "messages"
ROLES = ("system", "developer", "user", "assistant")
#: Roles whose content may be empty: an answer that ended at once, a client's empty instructions.
MAY_BE_EMPTY = ("system", "developer", "assistant")
MOST_MESSAGES = 1000
#: Unsupported fields of a message. Answers of OpenAI, of huggingface_hub and of this server have
#: them, and clients send answers back.
NEUTRAL: Neutral = {
    "refusal": ("",),
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "tool_calls": ([],),
    "tool_call_id": (),
    "reasoning": ("",),
}
#: Marks where a cache may end; it does not change the answer.
CACHE_BREAKPOINT = "prompt_cache_breakpoint"

_NULL = {"type": "null"}
_PART = record({"type": {"const": "text"}, "text": STRING}, {CACHE_BREAKPOINT: {}})
SCHEMA = array(
    record(
        {"role": {"enum": list(ROLES)}},
        {
            "content": either(STRING, array(_PART), _NULL),
            "name": either(STRING, _NULL),
            **{key: {"enum": [None, *values]} for key, values in NEUTRAL.items()},
        },
    ),
    minItems=1,
    maxItems=MOST_MESSAGES,
)


def read_messages(value: object) -> list[dict[str, str]]:
    """Return messages as a chat template takes them."""
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_MESSAGES:
        raise RequestError(
            422,
            f"messages must be a list of 1 to {MOST_MESSAGES}, such as "
            '[{"role": "user", "content": "..."}]',
        )
    return [_message(each, f"message {at}") for at, each in enumerate(value)]


def _message(value: object, what: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise RequestError(422, f'{what} must be {{"role": "user", "content": "..."}}')
    check_keys(value, ("role", "content", "name", *NEUTRAL), where="messages.")
    role = value.get("role")
    if role not in ROLES:
        raise RequestError(422, f"the role of {what} must be one of {', '.join(ROLES)}")
    check_neutral(value, NEUTRAL, f"{what}: this server has no {{name}}; leave it out")
    read = {"role": role, "content": _content(value.get("content"), role, what)}
    name = value.get("name")
    return read if name is None else {**read, "name": check_text(name, f"the name of {what}")}


def _content(content: object, role: str, what: str) -> str:
    if content is None and role == "assistant":
        return ""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    text = "".join(_part(part, what) for part in parts)
    if role in MAY_BE_EMPTY and not text.strip():
        return text
    return check_text(text, f"the content of {what}")


def _part(part: object, what: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        raise RequestError(422, f"{what} has a part that is no text; send texts alone")
    check_keys(part, ("type", "text", CACHE_BREAKPOINT), where="messages.content.")
    text = part.get("text")
    if not isinstance(text, str):
        raise RequestError(422, f"the content of {what} is {type_name(text)}; send a string")
    return text

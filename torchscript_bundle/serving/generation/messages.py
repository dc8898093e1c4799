"""Messages of a chat, checked.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.schemas import STRING, array, either, record
from torchscript_bundle.serving.texts import check_keys, check_text

#: The key of a request that has them.
MESSAGES = "messages"
ROLES = ("system", "developer", "user", "assistant")
MOST_MESSAGES = 1000

_PART = record({"type": {"const": "text"}, "text": STRING})
_CONTENT = either(STRING, array(_PART, minItems=1))
SCHEMA = array(
    record({"role": {"enum": list(ROLES)}, "content": _CONTENT}, {"name": {}}),
    minItems=1,
    maxItems=MOST_MESSAGES,
)


def read_messages(value: object) -> list[dict[str, str]]:
    """Messages as a chat template takes them.

    Raises:
        RequestError: 422 for what is no list of messages of texts.
    """
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
    check_keys(value, ("role", "content", "name"), where="messages.")
    role, content = value.get("role"), value.get("content")
    if role not in ROLES:
        raise RequestError(422, f"the role of {what} must be one of {', '.join(ROLES)}")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.keys() != {"type", "text"} or part["type"] != "text":
            raise RequestError(422, f"{what} has a part that is no text; send texts alone")
        texts.append(check_text(part["text"], f"the content of {what}"))
    if not texts:
        raise RequestError(422, f"{what} has no content; send a text")
    return {"role": str(role), "content": "".join(texts)}

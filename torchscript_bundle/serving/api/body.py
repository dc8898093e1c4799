"""Request body -> Python value: media types, JSON, and their errors."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import NoReturn

from torchscript_bundle.serving.api.http import HttpRequest
from torchscript_bundle.serving.api.protocols import binary_tensors
from torchscript_bundle.serving.errors import RequestError

#: Media types of JSON, beside those that end with `+json`. Only the first is registered.
JSON_TYPES = ("application/json", "application/x-json", "text/json", "text/x-json")
UNTYPED = ("", "application/octet-stream")
SEND_TEXT = 'send the text as text/plain, or JSON such as {"text": "..."} as application/json'

#: The beginning of an object, or of a list of objects, up to its first key. The quotes may be those
#: of JSON, of Python or of a word processor.
FIRST_KEY = re.compile(r"""(?:\[\s*)?\{\s*["'\u2018-\u201f](\w{1,40})["'\u2018-\u201f]\s*:""")
#: The first and the last characters of a list of strings, in JSON or as Python prints it.
LIST_HEAD = re.compile(r"""\[\s*["']""")
LIST_TAIL = re.compile(r"""["']\s*,?\s*\]\Z""")
#: Characters at each end of a text that are searched for these.
HEAD = 200
#: A Python tuple as the last member of an object, and the most characters that it takes.
TUPLE = re.compile(r'("target"\s*:\s*)\(\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,?\s*\)(\s*\}\s*)\Z')
TUPLE_SIZE = 100


def decode_body(request: HttpRequest, keys: Collection[str]) -> object:
    """Return the text of a request, or the value of its JSON.

    A form carries its text in the field `data`. A body without a content type (`curl -T file`), or
    the one entry of gRPC's input map, is JSON if it parses as a JSON object or list, and a text
    otherwise, as in the TorchServe example.

    A text that begins like an object with one of the model's own `keys` gets a 400: it is a request
    declared as text, or not quite JSON, and the model would read its braces and keys as words.
    """
    name = _field_name(request)
    if request.json_size:
        return _decode_binary(request.fields[name], request.json_size)
    media_type = _media_type(request.content_types.get(name, ""))
    text = _decode_utf8(request.fields[name])
    if media_type in JSON_TYPES or media_type.endswith("+json"):
        return _parse_json(text)
    if media_type in UNTYPED and (name == "body" or request.client == "grpc"):
        return _parse_json_container(text, keys)
    # Lists of JSON values, such as text/jsonl, are neither JSON nor text.
    if media_type in UNTYPED or (media_type.startswith("text/") and "json" not in media_type):
        return _check_is_text(text, keys)
    raise RequestError(415, "this content type is not served; " + SEND_TEXT)


def _field_name(request: HttpRequest) -> str:
    if request.client == "grpc":
        # Other entries would be ignored in silence.
        if len(request.fields) != 1 or not request.fields.keys() <= {"data", "body"}:
            raise RequestError(
                400, 'the input map must hold one entry, "data": put the text there, or JSON'
            )
        return next(iter(request.fields))
    for name in ("body", "data"):
        if name in request.fields:
            return name
    if request.fields:
        raise RequestError(400, 'the form has no field "data"; put the text there, or ' + SEND_TEXT)
    raise RequestError(
        400,
        "the body is empty, or a form that could not be read (curl -d sends a form unless told "
        "-H 'Content-Type: application/json'); " + SEND_TEXT,
    )


def _media_type(content_type: str) -> str:
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise RequestError(415, "this charset is not served; send UTF-8")
    return media_type


def _decode_utf8(body: bytes) -> str:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(
            400, f"the body is not UTF-8 (byte {error.start}); encode the text as UTF-8"
        ) from None
    if not text.strip():
        raise RequestError(400, "the body is empty; " + SEND_TEXT)
    return text


def _decode_binary(body: bytes, json_size: str) -> object:
    digits = json_size.isascii() and json_size.isdigit() and len(json_size) <= 10
    size = int(json_size) if digits else -1
    if not 0 <= size <= len(body):
        raise RequestError(
            400, "Inference-Header-Content-Length must be the size of the JSON that the body holds"
        )
    return binary_tensors.join(_parse_json(_decode_utf8(body[:size])), body[size:])


def _parse_json(text: str, reason: str = "is declared as JSON") -> object:
    try:
        return json.loads(
            text, parse_constant=_reject_constant, object_pairs_hook=_object_of_distinct_keys
        )
    except json.JSONDecodeError as error:
        problem = f"{error.msg} at line {error.lineno}, column {error.colno}"
    except ValueError:
        problem = "it holds a number that is out of range, NaN or Infinity"
    except RecursionError:
        problem = "it is nested too deeply"
    raise RequestError(400, f"the body {reason} but is not ({problem}); " + SEND_TEXT)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _object_of_distinct_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a repeated key: parsers differ in which value counts."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise RequestError(422, "an object has the same key twice; send it once")
    return value


def _parse_json_container(text: str, keys: Collection[str]) -> object:
    text = tuple_to_list(text)
    key = _first_key(text)
    if key in keys:
        return _parse_json(text, f'begins like JSON with the key "{key}"')
    if LIST_HEAD.match(text.lstrip()[:HEAD]) and LIST_TAIL.search(text.rstrip()[-HEAD:]):
        return _parse_json(text, "looks like a list of strings in JSON")
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return _parse_json(text)
    except RequestError as error:
        if error.status != 400:
            raise
        return text


def tuple_to_list(text: str) -> str:
    """Replace a tuple as the last member, as in a sample of the TorchServe example, by a list.

    This never changes JSON: there these characters could only stand in a string, which ends with a
    quote.
    """
    head, tail = text[:-TUPLE_SIZE], text[-TUPLE_SIZE:]
    return head + TUPLE.sub(r"\1[\2,\3]\4", tail)


def _check_is_text(text: str, keys: Collection[str]) -> str:
    key = _first_key(text)
    if key in keys:
        raise RequestError(
            400,
            f'the body begins like an object with the key "{key}" but is declared as text; declare '
            "it as application/json, or put a text that begins so into a JSON string",
        )
    return text


def _first_key(text: str) -> str | None:
    found = FIRST_KEY.match(text.lstrip()[:HEAD])
    return found[1] if found else None

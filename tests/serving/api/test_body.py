"""Bodies and their content types -> values, or 400 and 415; tuples in them."""

from __future__ import annotations

import json

import pytest

from tests.serving.helpers import raw
from torchscript_bundle.serving.api.body import decode_body, tuple_to_list
from torchscript_bundle.serving.api.http import HttpRequest
from torchscript_bundle.serving.errors import RequestError

BOM = b"\xef\xbb\xbf"
#: By which an object is recognised as a request.
KEYS = ("text", "inputs", "top_k")


@pytest.mark.parametrize(
    ("body", "content_type", "value"),
    [
        (b'"a"', "application/json", "a"),
        (b'{"text": "a"}', "application/json; charset=UTF-8", {"text": "a"}),
        (b'["a"]', "APPLICATION/JSON", ["a"]),
        (b'["a"]', "application/vnd.api+json", ["a"]),
        (b"null", "application/json", None),
        ("é".encode(), "text/plain", "é"),
        (b'{"verse": "a"}', "text/plain", '{"verse": "a"}'),
        (b'{"text": "a"}', "text/json", {"text": "a"}),
        (b'{"text": "a"}', "TEXT/X-JSON; charset=utf-8", {"text": "a"}),
        (b'{"text": "a"}', "application/x-json", {"text": "a"}),
        (b'{"text": "a"}', "application/ld+json;profile=x", {"text": "a"}),
        (b"'text': a", "text/markdown", "'text': a"),
        (b"<p>a", 'text/html; charset="utf-8"', "<p>a"),
        (b"a", "text/plain;charset=us-ascii", "a"),
        (b" a \n", "text/plain", " a \n"),
        (BOM + b'{"text": "a"}', "application/json", {"text": "a"}),
        (BOM + b"a", "text/plain", "a"),
    ],
)
def test_declared_body(body: bytes, content_type: str, value: object) -> None:
    assert decode_body(raw(body, content_type), KEYS) == value


@pytest.mark.parametrize("content_type", ["", "application/octet-stream", "; charset=utf-8"])
@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'["a", "b"]', ["a", "b"]),
        (b' \n{"text": "a"}', {"text": "a"}),
        (BOM + b'["a"]', ["a"]),
        (b'"a"', '"a"'),
        (b"42", "42"),
        (b"{a} is not JSON", "{a} is not JSON"),
        (b"[NaN]", "[NaN]"),
        (b"{'verse': 'a'}", "{'verse': 'a'}"),
        (b"{text: a}", "{text: a}"),
        (b"{{ text }}", "{{ text }}"),
        (b"{ 'text' is a word", "{ 'text' is a word"),
        (b"['90s, the", "['90s, the"),
        (b"[sic] ['90s']", "[sic] ['90s']"),
        (b"plain words", "plain words"),
    ],
)
def test_untyped_body_is_an_object_a_list_or_text(
    body: bytes, content_type: str, value: object
) -> None:
    assert decode_body(raw(body, content_type), KEYS) == value


@pytest.mark.parametrize(
    ("content_type", "value"),
    [("", '["a"]'), ("text/plain", '["a"]'), ("application/json", ["a"])],
)
def test_form_field_data_is_text_unless_declared_as_json(content_type: str, value: object) -> None:
    fields = {"other": b"x", "data": b'["a"]'}
    assert decode_body(HttpRequest(fields, {"data": content_type}), KEYS) == value


@pytest.mark.parametrize(
    ("body", "content_type", "status", "says"),
    [
        (b"", "text/plain", 400, "empty"),
        (b" \t\n", "application/json", 400, "empty"),
        (BOM, "", 400, "empty"),
        (b"caf\xe9", "text/plain", 400, "not UTF-8 (byte 3)"),
        ("secret".encode("utf-16"), "application/json", 400, "not UTF-8 (byte 0)"),
        (b"\xff", "", 400, "not UTF-8"),
        (b"secret", "application/json", 400, "line 1, column 1"),
        (b'{"secret":\n "a"', "application/json", 400, "line 2, column 5"),
        (b'["secret"] x', "application/json", 400, "not (Extra data"),
        (b"NaN", "application/json", 400, "NaN or Infinity"),
        (b'["a", Infinity]', "application/json", 400, "NaN or Infinity"),
        (b'{"top_k": -Infinity}', "application/json", 400, "NaN or Infinity"),
        (b"7" * 5000, "application/json", 400, "out of range"),
        (b"[" * 100_000, "application/json", 400, "nested too deeply"),
        (b'{"secret":' * 100_000, "application/json", 400, "nested too deeply"),
        (b'{"text": "secret"', "text/json", 400, "declared as JSON"),
        (b"secret", "text/x-json", 400, "declared as JSON"),
        (b'"secret"\n"a"', "text/jsonl", 415, "not served"),
        (b'"secret"\n"a"', "text/x-ndjson", 415, "not served"),
        (b'"secret"\n"a"', "application/x-ndjson", 415, "not served"),
        (b"a", "secret/png", 415, "not served"),
        (b"a", "application/secret", 415, "not served"),
        (b"a", "secret", 415, "not served"),
        (b"a", "multipart/form-data; boundary=secret", 415, "not served"),
        (b"a", "text/plain; charset=secret", 415, "UTF-8"),
        (b'"a"', "application/json; charset=utf-16", 415, "UTF-8"),
    ],
)
def test_refused_body_is_told_what_is_wrong_and_never_repeated(
    body: bytes, content_type: str, status: int, says: str
) -> None:
    with pytest.raises(RequestError) as caught:
        decode_body(raw(body, content_type), KEYS)
    assert caught.value.status == status
    assert says in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("fields", "says"), [({}, "empty"), ({"text": b"a", "x": b"b"}, 'no field "data"')]
)
def test_form_without_the_field(fields: dict[str, bytes], says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        decode_body(HttpRequest(fields, {}), KEYS)
    assert caught.value.status == 400


@pytest.mark.parametrize("content_type", ["application/json", ""])
def test_a_key_that_is_there_twice_is_refused(content_type: str) -> None:
    """Also where broken JSON would be a text: this one is not broken."""
    for body in (b'{"text": "a", "text": "b"}', b'[{"a": {"b": 1, "b": 1}}]'):
        with pytest.raises(RequestError, match="same key twice") as caught:
            decode_body(raw(body, content_type), KEYS)
        assert caught.value.status == 422


@pytest.mark.parametrize("key", ["data", "body"])
@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"a", "a"),
        (b'["a"]', ["a"]),
        (b' {"text": "a"}', {"text": "a"}),
        (b'"a"', '"a"'),
        (b"[not JSON", "[not JSON"),
    ],
)
def test_entry_of_a_grpc_map_is_json_if_it_is_a_list_or_object(
    key: str, content: bytes, value: object
) -> None:
    assert decode_body(HttpRequest({key: content}, {key: ""}, client="grpc"), KEYS) == value


@pytest.mark.parametrize(
    "fields", [{}, {"text": b"a"}, {"data": b"a", "body": b"b"}, {"data": b"a", "top_k": b"2"}]
)
def test_grpc_map_of_other_entries(fields: dict[str, bytes]) -> None:
    with pytest.raises(RequestError, match="must hold one entry") as caught:
        decode_body(HttpRequest(fields, {}, client="grpc"), KEYS)
    assert caught.value.status == 400


#: Requests that were declared as text, or are not quite JSON.
LIKE_REQUESTS = [
    "{'text': 'secret'}",
    '{"text": "secret"',
    '{"text": "secret",}',
    '{"text": NaN}',
    '{\n "top_k" : 2, "secret',
    "[{'text': 'secret'}, {'text': 'b'}]",
    "\ufeff  {\"inputs\": ['secret']}",
    "{\u201ctext\u201d: \u201csecret\u201d}",
    "{'inputs': " + "[" * 100_000,
]


@pytest.mark.parametrize(
    "content_type", ["", "application/octet-stream", "text/plain", "text/html"]
)
@pytest.mark.parametrize("body", LIKE_REQUESTS)
def test_text_that_begins_like_a_request_is_refused(body: str, content_type: str) -> None:
    """It was answered as if its braces, quotes and keys were words."""
    with pytest.raises(RequestError, match=r'with the key "(text|top_k|inputs)"') as caught:
        decode_body(raw(body.encode(), content_type), KEYS)
    assert caught.value.status == 400
    assert "application/json" in caught.value.message
    assert "secret" not in caught.value.message


def test_request_that_is_declared_as_text_is_refused() -> None:
    """The content type that browsers state for a string, whatever is in it."""
    body = b'{"text": "a"}'
    with pytest.raises(RequestError, match="is declared as text; declare it as application/json"):
        decode_body(raw(body, "text/plain;charset=UTF-8"), KEYS)
    with pytest.raises(RequestError, match="is declared as text"):
        decode_body(HttpRequest({"data": body}, {"data": ""}), KEYS)
    assert decode_body(raw(body), KEYS) == {"text": "a"}
    assert decode_body(raw(b'"{\\"text\\": 5}"', "application/json"), KEYS) == '{"text": 5}'


@pytest.mark.parametrize("body", ["['a', 'b']", '["a", "b",]', "[ 'It\\'s' ]\n", "['a',\n'b'\n]"])
def test_list_of_strings_that_is_not_quite_json_is_refused(body: str) -> None:
    """Of a text that is declared as one nothing is supposed: a poem may begin so."""
    with pytest.raises(RequestError, match="looks like a list of strings") as caught:
        decode_body(raw(body.encode()), KEYS)
    assert caught.value.status == 400
    assert decode_body(raw(body.encode(), "text/plain"), KEYS) == body


def test_grpc_entry_that_begins_like_a_request_is_refused() -> None:
    with pytest.raises(RequestError, match='begins like JSON with the key "text"'):
        decode_body(HttpRequest({"data": b"{'text': 'a'}"}, {}, client="grpc"), KEYS)


def test_long_white_space_is_no_cost() -> None:
    body = b" " * 1_000_000 + b"{" + b" " * 1_000_000
    assert decode_body(raw(body), KEYS) == body.decode()


@pytest.mark.parametrize(
    "body",
    [
        '{"text":"Two days.", "target":(1,2)} \n',
        '{"text": "Two days.", "target" : ( 1 , 2 ) }',
        '{"text":"Two days.","target":(1,2,)}',
    ],
)
def test_a_tuple_at_the_end_becomes_a_list(body: str) -> None:
    assert json.loads(tuple_to_list(body)) == {"text": "Two days.", "target": [1, 2]}


@pytest.mark.parametrize(
    "body",
    [
        '{"text": "it ends with \\"target\\":(1,2)}"}',
        '"\\"target\\":(1,2)}"',
        '{"target": [1, 2], "text": "(1,2)}"}',
        '{"text": "x", "target": (1)}',
        '{"text": "x", "target": (1, __import__)}',
        '{"target": (1,2), "text": "x"}',
        '{"text": "x", "other": (1,2)}',
        "Two days.",
        "",
    ],
)
def test_any_other_body_keeps_its_tuples(body: str) -> None:
    assert tuple_to_list(body) == body

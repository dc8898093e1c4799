"""What clients get from a live server: good requests, bad ones, and both at once."""

from __future__ import annotations

import functools
import http.client
import json
import socket
from typing import Any

import pytest
from transformers import pipeline

from tests.integration.conftest import Site

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
PART = 'Content-Disposition: form-data; name="{}"\r\n'
TEXT = "We waited an hour for cold soup."


def multipart(name: str, value: bytes, headers: str = "") -> bytes:
    return (
        b"--xx\r\n" + (PART.format(name) + headers).encode() + b"\r\n" + value + b"\r\n--xx--\r\n"
    )


MULTIPART = "multipart/form-data; boundary=xx"


@pytest.fixture(scope="module")
def expected(tiny_site: Site) -> Any:
    """transformers' own answer to one text."""
    classify = pipeline(
        "text-classification", str(tiny_site.checkpoint), truncation=True, max_length=64
    )
    return lambda text, **options: classify(text, **options)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (TEXT.encode(), "text/plain"),
        (TEXT.encode(), "text/plain; charset=utf-8"),
        (json.dumps(TEXT).encode(), JSON),
        (json.dumps({"text": TEXT}).encode(), JSON),
        (json.dumps({"inputs": TEXT}).encode(), JSON),
        (json.dumps({"data": TEXT}).encode(), JSON),
        (b"data=We+waited+an+hour+for+cold+soup.", FORM),
        (multipart("data", TEXT.encode()), MULTIPART),
        (multipart("data", TEXT.encode(), "Content-Type: text/plain\r\n"), MULTIPART),
    ],
)
def test_every_form_of_one_text_gets_the_pipelines_answer(
    tiny_site: Site, expected: Any, body: bytes, content_type: str
) -> None:
    answer = tiny_site.server.predict(body, content_type=content_type)
    assert answer.status == 200, answer
    assert answer.content_type == JSON
    [wanted] = expected(TEXT)
    assert answer.json()["label"] == wanted["label"]
    assert answer.json()["score"] == pytest.approx(wanted["score"], abs=1e-5)


def test_a_body_without_content_type_is_taken_as_curl_t_sends_it(
    tiny_site: Site, expected: Any
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", tiny_site.port("inference"))
    headers = {"Authorization": f"Bearer {tiny_site.server.token('inference')}"}
    connection.request("PUT", "/predictions/under_test", TEXT.encode(), headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    assert answer["score"] == pytest.approx(expected(TEXT)[0]["score"], abs=1e-5)


def test_a_list_gets_a_list_in_order(tiny_site: Site, expected: Any) -> None:
    texts = ["It works.", TEXT, "x"]
    answer = tiny_site.server.predict(json.dumps(texts).encode(), content_type=JSON).json()
    assert [each["score"] for each in answer] == pytest.approx(
        [expected(text)[0]["score"] for text in texts], abs=1e-5
    )


def test_top_k_gives_all_labels(tiny_site: Site, expected: Any) -> None:
    body = json.dumps({"text": TEXT, "top_k": None}).encode()
    answer = tiny_site.server.predict(body, content_type=JSON).json()
    wanted = expected(TEXT, top_k=None)
    assert [each["label"] for each in answer] == [each["label"] for each in wanted]


def test_plain_text_is_the_bare_label(tiny_site: Site, expected: Any) -> None:
    answer = tiny_site.server.predict(TEXT.encode(), accept="text/plain")
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.body.decode() == expected(TEXT)[0]["label"]


def test_a_long_text_is_cut_and_says_so(tiny_site: Site, expected: Any) -> None:
    long = "hour " * 500
    answer = tiny_site.server.predict(long.encode()).json()
    assert answer["truncated"] is True
    assert answer["score"] == pytest.approx(expected(long)[0]["score"], abs=1e-5)


BAD = [
    (b"", "text/plain", 400, "empty"),
    (b"", JSON, 400, "empty"),
    (b"\xff\xfe", "text/plain", 400, "UTF-8"),
    (b'{"text": ', JSON, 400, "JSON"),
    (b'{"text": "a"}', FORM, 400, "curl -d"),
    (b"5", JSON, 422, "number"),
    (b'{"txt": "a"}', JSON, 422, "not known"),
    (b'["a", 1]', JSON, 422, "item 1 of the list: the text is a number"),
    (b'{"text": "a", "top_k": 0}', JSON, 422, "top_k"),
    (b'["a","a","a","a","a"]', JSON, 413, "at most 4"),
    (b"x", "image/png", 415, "text/plain"),
    (multipart("other", b"a"), MULTIPART, 400, '"data"'),
]


@pytest.mark.parametrize(("body", "content_type", "status", "says"), BAD)
def test_each_bad_request_gets_its_own_status_and_a_sentence(
    tiny_site: Site, body: bytes, content_type: str, status: int, says: str
) -> None:
    answer = tiny_site.server.predict(body, content_type=content_type)
    assert answer.status == status, answer
    assert answer.content_type == JSON
    assert says in answer.json()["error"]


def test_a_body_over_a_megabyte_is_refused_by_torchserve(tiny_site: Site) -> None:
    """By its declared length alone: it closes at once, and a client still sending sees a reset."""
    head = (
        "POST /predictions/under_test HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
        f"Authorization: Bearer {tiny_site.server.token('inference')}\r\n"
        f"Content-Length: {2**20 + 1}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", tiny_site.port("inference")), timeout=30) as client:
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")
    assert tiny_site.server.predict(b"a " * (2**19 - 1)).status == 200


def test_explanations_are_refused_with_a_sentence(tiny_site: Site) -> None:
    url = f"http://127.0.0.1:{tiny_site.port('inference')}/explanations/under_test"
    answer = tiny_site.server.request("POST", url, "inference", body=TEXT.encode())
    assert answer.status == 404
    assert "/predictions" in answer.json()["error"]


def test_describe_tells_what_is_served(tiny_site: Site) -> None:
    url = f"http://127.0.0.1:{tiny_site.port('management')}/models/under_test?customized=true"
    [answer] = tiny_site.server.request("GET", url, "management").json()
    metadata = answer["customizedMetadata"]
    facts = json.loads(metadata) if isinstance(metadata, str) else metadata
    assert facts["labels"] == ["NEGATIVE", "POSITIVE"]


def test_eight_at_once_of_which_three_are_bad(tiny_site: Site, expected: Any) -> None:
    """Five right answers, three own 4xx, and the worker was called once for all eight."""
    texts = ["It works.", "Not bad at all.", TEXT, "x", "The film was long."]
    good = [functools.partial(tiny_site.server.predict, text.encode()) for text in texts]
    bad = [
        functools.partial(tiny_site.server.predict, body, content_type=content_type)
        for body, content_type, _, _ in (BAD[0], BAD[3], BAD[5])
    ]
    answers = tiny_site.in_one_call(
        [good[0], bad[0], good[1], good[2], bad[1], good[3], bad[2], good[4]]
    )
    assert [answer.status for answer in answers] == [200, 400, 200, 200, 400, 200, 422, 200]
    served = [answer.json()["score"] for answer in answers if answer.status == 200]
    assert served == pytest.approx([expected(text)[0]["score"] for text in texts], abs=1e-5)
    errors = [answer.json()["error"] for answer in answers if answer.status != 200]
    assert len(set(errors)) == 3

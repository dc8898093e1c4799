"""Streams of characters that end lines in Python, read by other people's clients.

`str.splitlines`, by which `httpx` and `requests` cut a stream into lines, ends one at U+0085,
U+2028 and U+2029 as well; and `requests` takes text for Latin-1 where no charset is stated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx
import httpx2
import openai
import pytest
import requests
from httpx_sse import connect_sse
from huggingface_hub import InferenceClient

from tests.integration.conftest import Site
from tests.integration.generation import MODEL, pack_writer
from tests.serving.generation.speller import ANSWER, make_speller
from torchscript_bundle.export.archive import VERSION

ASKED = {"inputs": "go", "parameters": {"max_new_tokens": 40}, "stream": True}
MESSAGES = [{"role": "user", "content": "go"}]
CHAT = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "stream": True}


@pytest.fixture(scope="module")
def site(start_site: Callable[..., Site], tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A server whose model writes `ANSWER`."""
    folder = tmp_path_factory.mktemp("speller")
    written = make_speller(folder / "artifact")
    return start_site(folder, pack_writer(written.folder, folder), sample=b"go")


def headers(site: Site) -> dict[str, str]:
    return {"Authorization": f"Bearer {site.server.token('inference')}"}


def native_text(lines: Iterable[str]) -> str:
    """What a stream of the native form says, read as its users read it: by lines."""
    events = [json.loads(line[len("data:") :]) for line in lines if line.startswith("data:")]
    text = "".join(event["token"]["text"] for event in events)
    assert events[-1]["generated_text"] == text
    return text


def chat_text(lines: Iterable[str]) -> str:
    """The same of a chat."""
    said = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
    assert said.pop() == "[DONE]"
    deltas = [json.loads(each)["choices"][0]["delta"] for each in said]
    return "".join(delta.get("content") or "" for delta in deltas)


def lines_of_httpx(client: Any, url: str, value: Any, headed: dict[str, str]) -> Iterator[str]:
    with client.stream("POST", url, json=value, headers=headed, timeout=60) as response:
        assert response.status_code == 200
        yield from response.iter_lines()


def lines_of_requests(_: Any, url: str, value: Any, headed: dict[str, str]) -> Iterator[str]:
    with requests.post(url, json=value, headers=headed, stream=True, timeout=60) as response:
        assert response.status_code == 200
        yield from response.iter_lines(decode_unicode=True)


def events_of_httpx_sse(_: Any, url: str, value: Any, headed: dict[str, str]) -> Iterator[str]:
    with (
        httpx.Client(headers=headed, timeout=60) as client,
        connect_sse(client, "POST", url, json=value) as source,
    ):
        yield from (f"data: {event.data}" for event in source.iter_sse())


READERS = [
    pytest.param(lines_of_httpx, httpx, id="httpx"),
    pytest.param(lines_of_httpx, httpx2, id="httpx2"),
    pytest.param(lines_of_requests, requests, id="requests"),
    pytest.param(events_of_httpx_sse, None, id="httpx_sse"),
]


@pytest.mark.parametrize(("read", "client"), READERS)
def test_plain_readers(site: Site, read: Callable[..., Iterator[str]], client: Any) -> None:
    address = site.server.address
    assert native_text(read(client, address, ASKED, headers(site))) == ANSWER
    url = f"{address}/{VERSION}/chat/completions"
    assert chat_text(read(client, url, CHAT, headers(site))) == ANSWER


def test_huggingface_hub(site: Site) -> None:
    hub = InferenceClient(model=site.server.address, headers=headers(site))
    assert "".join(hub.text_generation("go", max_new_tokens=40, stream=True)) == ANSWER
    events = [*hub.text_generation("go", max_new_tokens=40, stream=True, details=True)]
    assert events[-1].generated_text == ANSWER
    chat = InferenceClient(
        base_url=f"{site.server.address}/{VERSION}", api_key=site.server.token("inference")
    )
    chunks = chat.chat_completion(MESSAGES, temperature=0, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER


def test_openai(site: Site) -> None:
    with openai.OpenAI(
        base_url=f"{site.server.address}/{VERSION}",
        api_key=site.server.token("inference"),
        max_retries=0,
    ) as client:
        chunks = client.chat.completions.create(**CHAT)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
        pieces = client.completions.create(model=MODEL, prompt="go", temperature=0, stream=True)
        assert "".join(piece.choices[0].text for piece in pieces) == ANSWER


def test_stream_says_its_charset_and_is_ascii(site: Site) -> None:
    response = requests.post(site.server.address, json=ASKED, headers=headers(site), timeout=60)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.content.isascii()


@pytest.mark.parametrize("client", [httpx, httpx2, requests], ids=lambda each: each.__name__)
def test_answers_that_are_not_streamed(site: Site, client: Any) -> None:
    value = {**ASKED, "stream": False}
    answer = client.post(site.server.address, json=value, headers=headers(site), timeout=60)
    assert answer.json() == json.loads(answer.text) == [{"generated_text": ANSWER}]
    plain = client.post(
        site.server.address,
        json=value,
        headers={**headers(site), "Accept": "text/plain"},
        timeout=60,
    )
    assert plain.text == ANSWER

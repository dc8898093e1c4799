"""Texts that a live TorchServe writes: together, streamed, and for clients that leave."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests.integration.conftest import ATTEMPTS, Site
from tests.integration.generation import MODEL, data, pack_writer
from tests.integration.helpers import serving, wait_until
from tests.serving.generation.helpers import Written, spoken
from torchscript_bundle.server import Answer, launching
from torchscript_bundle.serving.api.http import EVENTS

TEXTS = (
    *("The film was long and the ending", "cold soup", "It works as described; the battery", "a"),
    *("Not bad at all, I would stay there again with my family.", "Café", "Übergröße", "x y z"),
)

#: What a worker's memory may grow by under load (MB): keys and values of this model are below one.
MOST_GROWN = 100
#: Those of streams that a test began.
CONNECTIONS: list[http.client.HTTPConnection] = []


@pytest.fixture(autouse=True)
def one_worker(writer_site: Site) -> Iterator[None]:
    """Whatever a test sends, the worker lives, and writes for nobody afterwards."""
    before = writer_site.server.worker_pids
    yield
    hang_up()
    assert writer_site.server.worker_pids == before
    wait_idle(writer_site)


def hang_up() -> None:
    """Leaves, whatever is still to come."""
    for connection in CONNECTIONS:
        connection.close()
    CONNECTIONS.clear()


def generated(site: Site) -> int:
    """How many tokens were written so far, by the server's metric."""
    return site.metric("GeneratedTokens")


def wait_idle(site: Site) -> None:
    """Waits until the worker is not called any more."""
    calls = [-1]

    def idle() -> bool:
        calls.append(site.worker_calls())
        time.sleep(0.4)
        return calls[-1] == calls[-2]

    wait_until(idle, "the worker is called for nobody")


def send(site: Site, value: Any) -> Answer:
    body = json.dumps(value).encode()
    return site.server.predict(body, content_type="application/json")


def post(site: Site, value: Any) -> http.client.HTTPResponse:
    """The response of a stream, its head read, its body not."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port("inference"), timeout=60)
    headers = {
        "Authorization": f"Bearer {site.server.token('inference')}",
        "Content-Type": "application/json",
    }
    connection.request("POST", f"/predictions/{MODEL}", json.dumps(value), headers)
    response = connection.getresponse()
    CONNECTIONS.append(connection)
    return response


def request(text: str, stream: bool = False, **parameters: Any) -> dict[str, Any]:
    return {"inputs": text, "parameters": parameters, "stream": stream}


def read_stream(site: Site, value: Any) -> Any:
    response = post(site, value)
    assert response.status == 200
    assert response.getheader("content-type") == EVENTS
    events = [each for each in response.read().split(b"\n\n") if each.startswith(b"data:")]
    return [data(each) for each in events]


def resident(site: Site) -> int:
    """Megabytes of the worker."""
    [pid] = site.server.worker_pids
    return int(psutil.Process(pid).memory_info().rss) >> 20


def test_messages_take_the_place_of_a_text(writer_site: Site, writer: Written) -> None:
    said = {"messages": [{"role": "user", "content": "The film"}], "max_new_tokens": 9}
    _, text, _ = spoken(writer, "<s>user: The film</s><s>assistant:", 9)
    assert send(writer_site, said).json() == [{"generated_text": text}]
    events = read_stream(writer_site, {**said, "stream": True})
    assert events[-1]["generated_text"] == text
    refused = send(writer_site, {**said, "text": "The film"})
    assert (refused.status, "not both" in refused.json()["error"]) == (422, True)


def test_twenty_requests_at_once(writer_site: Site, writer: Written) -> None:
    """Of all lengths and kinds, streamed or not; wrong ones among them."""
    right = [
        request(text, at % 3 == 0, max_new_tokens=2 + 3 * at)
        for at, text in enumerate((TEXTS * 2)[:14])
    ]
    sampled = [
        request(TEXTS[at], at % 2 == 0, max_new_tokens=20, seed=at, temperature=1 + at, top_k=9)
        for at in range(6)
    ]
    wrong = [
        (request("The film " * 200), 413),
        (request("a", temperature=-1), 422),
        (request(" "), 422),
        ({"texts": "a"}, 422),
        (request("The film " * 200, stream=True), 413),
    ]
    alone = [send(writer_site, {**each, "stream": False}).json() for each in sampled]

    def ask(value: Any) -> Any:
        if value.get("stream"):
            response = post(writer_site, value)
            if response.status != 200:
                return Answer(response.status, "", response.read())
            lines = [each for each in response.read().split(b"\n\n") if each.startswith(b"data")]
            return [{"generated_text": data(lines[-1])["generated_text"]}]
        answer = send(writer_site, value)
        return answer.json() if answer.status == 200 else answer

    everything = [*right, *(value for value, _ in wrong), *sampled]
    before = resident(writer_site)
    with ThreadPoolExecutor(len(everything)) as pool:
        answers = list(pool.map(ask, everything))
    grown = resident(writer_site) - before
    print(f"{len(everything)} requests at once: {before} MB resident before, {grown} more after")
    assert grown < MOST_GROWN
    for value, answer in zip(right, answers, strict=False):
        new = value["parameters"]["max_new_tokens"]
        assert answer == [{"generated_text": writer.greedy(value["inputs"], new)[1]}]
    for (_, status), answer in zip(wrong, answers[len(right) :], strict=False):
        assert answer.status == status
        assert json.loads(answer.body)["error"]
    assert answers[len(right) + len(wrong) :] == alone


def test_first_token_comes_before_the_last(writer_site: Site, writer: Written) -> None:
    """Where this process has to wait for a core they may seem to come at once; not each time."""
    for _ in range(ATTEMPTS):
        response = post(writer_site, request("a", stream=True, max_new_tokens=90))
        first = response.readline()
        seen = time.monotonic()
        rest = [line for line in response.read().splitlines() if line]
        apart = time.monotonic() - seen > 0.05
        if apart:
            break
    assert apart, "all tokens came at once"
    events = [data(line) for line in [first, *rest]]
    tokens, text = writer.greedy("a", 90)
    assert [each["token"]["id"] for each in events] == tokens
    assert "".join(each["token"]["text"] for each in events) == text
    assert events[-1]["details"]["finish_reason"] in ("length", "eos_token")


def test_one_token_can_be_streamed(writer_site: Site, writer: Written) -> None:
    [event] = read_stream(writer_site, request(TEXTS[0], stream=True, max_new_tokens=1))
    assert event["generated_text"] == writer.greedy(TEXTS[0], 1)[1]
    assert event["details"]["finish_reason"] == "length"


def test_client_that_leaves_stops_the_work(writer_site: Site) -> None:
    """Where the machine is busy a client may leave too late; not each time."""
    for _ in range(ATTEMPTS):
        wait_idle(writer_site)
        before = generated(writer_site)
        asked = request("a", stream=True, max_new_tokens=94)
        responses = [post(writer_site, asked) for _ in range(3)]
        for response in responses:
            response.readline()
            response.close()
        hang_up()
        wait_idle(writer_site)
        written = generated(writer_site) - before
        if 3 <= written < 2 * 94:
            break
    assert 3 <= written < 2 * 94


def test_connection_is_kept_for_the_next_request(writer_site: Site, writer: Written) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", writer_site.port("inference"), timeout=60)
    headers = {
        "Authorization": f"Bearer {writer_site.server.token('inference')}",
        "Content-Type": "application/json",
    }
    for stream in (False, True, True, False):
        body = json.dumps(request(TEXTS[1], stream=stream, max_new_tokens=4))
        connection.request("POST", f"/predictions/{MODEL}", body, headers)
        response = connection.getresponse()
        content = response.read()
        assert response.status == 200
        assert (response.getheader("content-length") is None) == stream
        value = data(content.strip().split(b"\n\n")[-1]) if stream else json.loads(content)[0]
        assert value["generated_text"] == writer.greedy(TEXTS[1], 4)[1]
    connection.close()


def describe(site: Site) -> Answer:
    url = f"http://127.0.0.1:{site.port('management')}/models/{MODEL}?customized=true"
    return site.server.request("GET", url, "management")


def test_describe_call_is_answered_once_and_holds_nobody_up(
    writer_site: Site, writer: Written
) -> None:
    """TorchServe by itself sends it for ever, and nothing else."""
    asked = request("a", stream=True, max_new_tokens=60)
    with ThreadPoolExecutor(3) as pool:
        streams = [pool.submit(read_stream, writer_site, asked) for _ in range(3)]
        for _ in range(2):
            [described] = describe(writer_site).json()
            assert described["customizedMetadata"]["mode"] == "text_generation"
        text = writer.greedy("a", 60)[1]
        assert [each.result()[-1]["generated_text"] for each in streams] == [text] * 3
    wait_idle(writer_site)
    [described] = describe(writer_site).json()
    assert described["customizedMetadata"]["writing"]["running"] == 0
    assert send(writer_site, request("a", max_new_tokens=5)).status == 200


@pytest.mark.slow
def test_torchserve_that_was_not_mended_ends_instead_of_freezing(
    writer: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "mend", lambda *_: None)
    sample = request("a", max_new_tokens=2)
    with serving(tmp_path, pack_writer(writer.folder, tmp_path), sample) as running:
        site = Site(running, writer.folder, tmp_path)
        assert describe(site).status == 200
        wait_until(lambda: not running.running, "it freezes")
        assert "TorchServe sends a describe call again and again" in site.logs()


def test_inference_client(writer_site: Site, writer: Written) -> None:
    headers = {"Authorization": f"Bearer {writer_site.server.token('inference')}"}
    client = InferenceClient(model=writer_site.server.address, headers=headers)
    tokens, text = writer.greedy(TEXTS[0], 8)
    assert client.text_generation(TEXTS[0], max_new_tokens=8) == text
    told = client.text_generation(TEXTS[0], max_new_tokens=8, details=True)
    assert (told.generated_text, told.details.finish_reason) == (text, "length")
    assert [token.id for token in told.details.tokens] == tokens
    assert "".join(client.text_generation(TEXTS[0], max_new_tokens=8, stream=True)) == text
    events = [*client.text_generation(TEXTS[0], max_new_tokens=8, stream=True, details=True)]
    assert [each.token.id for each in events] == tokens
    assert events[-1].details.finish_reason == "length"
    assert events[-1].generated_text == text
    with pytest.raises(HfHubHTTPError, match="send at most 88 "):
        client.text_generation("The film " * 99, max_new_tokens=8, stream=True)

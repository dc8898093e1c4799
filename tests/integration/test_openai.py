"""The official openai package on a live server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from huggingface_hub import InferenceClient

from tests.integration.conftest import Site
from tests.integration.generation import MODEL
from tests.serving.generation.helpers import Written, spoken
from torchscript_bundle.export.archive import VERSION

MESSAGES = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": [{"type": "text", "text": "The film"}]},
]
SAID = "<s>system: Be short.</s><s>user: The film</s><s>assistant:"


@pytest.fixture(scope="module")
def client(writer_site: Site) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{writer_site.server.address}/{VERSION}",
        api_key=writer_site.server.token("inference"),
        max_retries=0,
    ) as client:
        yield client


def test_chat(client: openai.OpenAI, writer: Written) -> None:
    tokens, text, read = spoken(writer, SAID, 12)
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0, max_tokens=12
    )
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", text)
    assert choice.finish_reason == ("stop" if tokens[-1] in writer.eos_ids else "length")
    assert answer.model == MODEL
    assert answer.usage is not None
    counted = (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert counted == (read, len(tokens))
    assert answer.usage.total_tokens == sum(counted)


def test_chat_streamed(client: openai.OpenAI, writer: Written) -> None:
    tokens, text, read = spoken(writer, SAID, 12)
    stream = client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        temperature=0,
        max_completion_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = stream
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(pieces) == text
    assert sum(map(bool, pieces)) > 1
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    assert len({chunk.id for chunk in [*chunks, last]}) == 1
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == read + len(tokens)


def test_chat_of_huggingface_hub(writer_site: Site, writer: Written) -> None:
    hub = InferenceClient(
        base_url=f"{writer_site.server.address}/{VERSION}",
        api_key=writer_site.server.token("inference"),
    )
    _, text, _ = spoken(writer, SAID, 12)
    options = {"messages": MESSAGES, "temperature": 0, "max_tokens": 12}
    answer = hub.chat_completion(**options)  # type: ignore[call-overload]
    assert answer.choices[0].message.content == text
    chunks = hub.chat_completion(**options, stream=True)  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text


def test_answers_are_sent_back_as_history(
    client: openai.OpenAI, writer_site: Site, writer: Written
) -> None:
    """As the clients' own objects, and as what those give for JSON, null values included."""
    first = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0, max_tokens=5
    ).choices[0]
    hub = InferenceClient(
        base_url=f"{writer_site.server.address}/{VERSION}",
        api_key=writer_site.server.token("inference"),
    )
    options: Any = {"temperature": 0, "max_tokens": 5}
    of_hub = hub.chat_completion(MESSAGES, **options).choices[0].message
    said = f"{SAID}{first.message.content}</s><s>user: why</s><s>assistant:".replace(
        "<s>assistant:", "<s>assistant: ", 1
    )
    _, expected, _ = spoken(writer, said, 5)
    dumped = [first.message, first.message.model_dump(), first.message.to_dict(), dict(of_hub)]
    for message in dumped:
        history: Any = [*MESSAGES, message, {"role": "user", "content": "why"}]
        answer = client.chat.completions.create(model=MODEL, messages=history, **options)
        assert answer.choices[0].message.content == expected
    history = [*MESSAGES, of_hub, {"role": "user", "content": "why"}]
    assert hub.chat_completion(history, **options).choices[0].message.content == expected


def test_fields_that_ask_for_nothing(client: openai.OpenAI, writer: Written) -> None:
    _, text, _ = spoken(writer, SAID, 5)
    neutral: Any = {
        **{"n": 1, "logprobs": False, "top_logprobs": None, "tools": [], "tool_choice": "none"},
        **{"parallel_tool_calls": True, "response_format": {"type": "text"}, "store": False},
        **{"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "user": "ada"},
        **{"modalities": ["text"], "service_tier": "auto", "metadata": {"a": "b"}},
    }
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0, max_tokens=5, **neutral
    )
    assert answer.choices[0].message.content == text
    for name, value in (("n", True), ("n", 2), ("logprobs", True), ("tool_choice", "required")):
        with pytest.raises(openai.BadRequestError, match=f"this server has no {name}; leave it"):
            client.chat.completions.create(model=MODEL, messages=MESSAGES, **{name: value})
    with pytest.raises(openai.BadRequestError, match="this server has no logprobs"):
        client.completions.create(model=MODEL, prompt="a", logprobs=0)


def test_completions(client: openai.OpenAI, writer: Written) -> None:
    texts = ["cold soup", "Not bad"]
    answer = client.completions.create(model=MODEL, prompt=texts, temperature=0, max_tokens=8)
    expected = [writer.greedy(text, 8)[1] for text in texts]
    assert [choice.text for choice in answer.choices] == expected
    stream = client.completions.create(
        model=MODEL, prompt=texts, temperature=0, max_tokens=8, stream=True
    )
    streamed = ["", ""]
    for chunk in stream:
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == expected


def test_stop_strings_are_cut_off(client: openai.OpenAI, writer: Written) -> None:
    whole = writer.greedy("The film was long", 12)[1].rstrip("\ufffd")
    stop = whole[len(whole) // 2 :][:2]
    cut = whole[: whole.index(stop)]
    options = {"model": MODEL, "prompt": "The film was long", "temperature": 0, "max_tokens": 12}
    answer = client.completions.create(**options, stop=stop)  # type: ignore[call-overload]
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (cut, "stop")
    stream = client.completions.create(**options, stop=[stop], stream=True)  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].text for chunk in stream) == cut


def test_same_seed_gives_the_same_text(client: openai.OpenAI) -> None:
    texts = [
        client.completions.create(model=MODEL, prompt="a", seed=seed, max_tokens=12).choices[0].text
        for seed in (5, 5, 6)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_errors_are_those_of_openai(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="temperature must be a number") as caught:
        client.completions.create(model=MODEL, prompt="a", temperature=3)
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError, match="this address serves writer") as missing:
        client.completions.create(model="gpt-5", prompt="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.APIStatusError, match="send at most") as long:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "The film " * 99}], stream=True
        )
    assert (long.value.status_code, long.value.code) == (413, "context_length_exceeded")
    with pytest.raises(openai.BadRequestError, match="the role of message 0"):
        client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "tool", "content": "a"}],  # type: ignore[list-item]
        )
    with pytest.raises(openai.BadRequestError, match="this server has no n"):
        client.completions.create(model=MODEL, prompt="a", n=2)


def test_stream_that_is_left_is_no_error_for_the_next(
    client: openai.OpenAI, writer: Written
) -> None:
    with client.completions.create(
        model=MODEL, prompt="a", max_tokens=90, stream=True, temperature=0
    ) as stream:
        next(iter(stream))
    answer = client.completions.create(model=MODEL, prompt="a", temperature=0, max_tokens=5)
    assert answer.choices[0].text == writer.greedy("a", 5)[1]

"""Messages in the native form, and what the OpenAPI document says of them and of streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.serving.generation.helpers import Written, answer_all, ask, post, spoken
from torchscript_bundle.serving.generation.generation_service import GenerationService

Get = Callable[[str], Written]
SAID = [{"role": "user", "content": "so it goes"}]
RENDERED = "<s>user: so it goes</s><s>assistant:"


@pytest.fixture(scope="module")
def service(written: Get) -> GenerationService:
    return written("gpt2").service()


def validator(service: GenerationService, name: str) -> Draft202012Validator:
    api = service.describe()["openapi"]
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", **api})


def events(body: bytes) -> list[Any]:
    lines = body.decode().splitlines()
    return [json.loads(line[len("data:") :]) for line in lines if line.startswith("data:")]


@pytest.mark.parametrize(
    "parameters",
    [{"max_new_tokens": 9}, {"parameters": {"max_new_tokens": 9}}],
    ids=["beside", "below"],
)
def test_messages_are_rendered(
    parameters: dict[str, Any], written: Get, service: GenerationService
) -> None:
    _, text, _ = spoken(written("gpt2"), RENDERED, 9)
    assert ask(service, {"messages": SAID, **parameters}) == (200, [{"generated_text": text}])


def test_messages_are_streamed(written: Get, service: GenerationService) -> None:
    tokens, text, read = spoken(written("gpt2"), RENDERED, 9)
    asked = {"messages": SAID, "max_new_tokens": 9, "stream": True}
    [response] = answer_all(service, post(asked))
    sent = events(response.body)
    assert [event["token"]["id"] for event in sent] == tokens
    assert sent[-1]["generated_text"] == text
    assert sent[-1]["details"]["input_length"] == read
    for event in sent:
        validator(service, "Event").validate(event)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"messages": SAID, "text": "a"}, "not both"),
        ({"messages": SAID, "inputs": "a"}, "send one input"),
        ({"messages": SAID, "instances": ["a"]}, "not known"),
        ({"messages": []}, "messages must be a list"),
        ({"messages": [{"role": "cat", "content": "a"}]}, "role of message 0"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "is no text"),
        ({"messages": SAID, "max_tokens": 3}, "not known"),
    ],
)
def test_wrong_messages_get_a_sentence(
    request_: dict[str, Any], sentence: str, service: GenerationService
) -> None:
    status, answer = ask(service, request_)
    assert status == 422
    assert sentence in answer["error"]


def test_model_without_a_template_takes_no_messages(written: Get) -> None:
    service = written("t5").service()
    status, answer = ask(service, {"messages": SAID})
    assert status == 422
    assert "has no chat template; send a text" in answer["error"]
    assert not validator(service, "Request").is_valid({"messages": SAID})


def test_document_has_messages_and_events(service: GenerationService) -> None:
    api = service.describe()["openapi"]
    OpenAPIV31SpecValidator(api).validate()
    assert validator(service, "Request").is_valid({"messages": SAID, "stream": True})
    assert not validator(service, "Request").is_valid({"messages": [], "stream": True})
    answer = api["components"]["responses"]["Answer"]
    assert {"application/json", "text/plain", "text/event-stream"} == set(answer["content"])

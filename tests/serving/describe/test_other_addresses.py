"""The addresses of other APIs in the OpenAPI document: which there are, and that it is true."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.serving.helpers import EACH_MODE, ask, post, read
from torchscript_bundle.serving.api.protocols import PROTOCOLS
from torchscript_bundle.serving.service import Service

Named = Callable[[str], Service]

BEFORE = "/predictions//1.0/"
OF_ALL = ["tokenize", "info"]
#: Checkpoint -> what its mode answers besides.
OWN = {
    "bert": ["predict"],
    "roberta_embedding": ["embeddings", "v1/embeddings", "embed"],
    "roberta_sparse": ["embed_sparse"],
    "bert_reranker": ["v1/rerank", "v2/rerank", "rerank"],
}
WRONG: list[object] = [
    *(None, 5, [], "", {}, {"secret": "a"}, {"inputs": "a", "secret": 1}),
    *({"input": [5]}, {"input": []}, {"input": "a", "encoding_format": "int8"}),
    *({"inputs": 5}, {"inputs": " "}, {"inputs": [[]]}, {"inputs": "a", "truncate": "no"}),
    *({"query": "a"}, {"query": "a", "documents": []}, {"query": "a", "texts": "b"}),
    {"query": "a", "documents": ["b"], "top_n": 0},
    {"inputs": "a", "truncation_direction": "middle"},
    {"inputs": "a", "add_special_tokens": "no"},
]


def document(service: Service) -> dict[str, Any]:
    return dict(service.describe()["openapi"])


def others(api: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the operation of each address of another API, by its end."""
    return {
        path.removeprefix(BEFORE): operation
        for path, operations in api["paths"].items()
        if path.startswith(BEFORE)
        for operation in operations.values()
    }


def problems(api: dict[str, Any], schema: dict[str, Any], value: object) -> list[str]:
    whole = Draft202012Validator({**schema, "components": api["components"]})
    return [error.message for error in whole.iter_errors(value)]


def of_body(holder: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a JSON body."""
    return dict(holder["content"]["application/json"]["schema"])


def of_answer(api: dict[str, Any], operation: dict[str, Any], status: int) -> dict[str, Any]:
    """Return the schema of a response with this status."""
    response = operation["responses"][str(status)]
    if "$ref" in response:
        response = api["components"]["responses"][response["$ref"].rpartition("/")[2]]
    return of_body(response)


def test_each_mode_has_those_that_it_answers(service: Named) -> None:
    for name in EACH_MODE:
        assert sorted(others(document(service(name)))) == sorted([*OWN.get(name, []), *OF_ALL])
    answered = {path for paths in OWN.values() for path in paths} | {*OF_ALL}
    assert answered == {path for each in PROTOCOLS for path in each.paths}


@pytest.mark.parametrize("name", EACH_MODE)
def test_examples_are_answered_and_what_is_excluded_is_refused_as_they_say(
    service: Named, name: str
) -> None:
    api = document(service(name))
    for path, operation in others(api).items():
        if path == "info":
            assert "requestBody" not in operation
            [response] = service(name).answer([post(None, path=path)])
            assert problems(api, of_answer(api, operation, 200), read(response)) == []
            continue
        request = operation["requestBody"]
        examples = request["content"]["application/json"]["examples"]
        assert examples
        for example in examples.values():
            assert problems(api, of_body(request), example["value"]) == []
            status, answer = ask(service(name), example["value"], path)
            assert (status, problems(api, of_answer(api, operation, 200), answer)) == (200, [])
        for wrong in WRONG:
            status, answer = ask(service(name), wrong, path)
            refused = status != 200
            assert refused or not problems(api, of_body(request), wrong), (path, wrong)
            assert problems(api, of_answer(api, operation, status), answer) == []


def test_either_spelling_of_an_end_is_in_the_document(service: Named) -> None:
    api = document(service("bert"))
    schema = of_body(others(api)["predict"]["requestBody"])
    for side in ("left", "Right", "LEFT"):
        request = {"inputs": "a", "truncation_direction": side}
        assert problems(api, schema, request) == []
        assert ask(service("bert"), request, "predict")[0] == 200


def test_several_sequences_are_in_the_document(service: Named) -> None:
    api = document(service("bert"))
    schema = of_body(others(api)["predict"]["requestBody"])
    for inputs in (["a", "b"], [["a"], "b", ["a", "b"]]):
        assert problems(api, schema, {"inputs": inputs}) == []
        assert ask(service("bert"), {"inputs": inputs}, "predict")[0] == 200, json.dumps(inputs)
    for inputs in (["a", ["b"]], ["a", "b", "c"], [["a", "b", "c"]]):
        assert problems(api, schema, {"inputs": inputs})
        assert ask(service("bert"), {"inputs": inputs}, "predict")[0] == 422

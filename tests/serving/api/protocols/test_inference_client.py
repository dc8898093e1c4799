"""What huggingface_hub's InferenceClient is answered, and that no other client is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.serving.helpers import ask, post, read
from torchscript_bundle.serving.api.http import Client
from torchscript_bundle.serving.service import Service

Named = Callable[[str], Service]
TEXT = "We waited an hour for cold soup."
LABELS = {"candidate_labels": ["food", "film"], "multi_label": False}


def asked(service: Service, value: object, client: Client = "huggingface_hub") -> Any:
    """The answer to a JSON body of that client."""
    [response] = service.answer([replace(post(value), client=client)])
    assert response.status == 200, response
    return read(response)


@pytest.mark.parametrize("parameters", [{}, {"top_k": None}, {"top_k": 2}, {"top_k": 1}])
def test_classification_is_a_list_of_labels_for_each_text(
    service: Named, parameters: dict[str, Any]
) -> None:
    body = {"inputs": TEXT, "parameters": parameters}
    expected = ask(service("bert"), {"text": TEXT, "top_k": parameters.get("top_k")})[1]
    assert len(expected) == (parameters.get("top_k") or 3)
    assert asked(service("bert"), body) == [expected]
    assert asked(service("bert"), {**body, "inputs": [TEXT]}) == [expected]


def test_zero_shot_classification_is_a_list_of_labels_with_scores(service: Named) -> None:
    body = {"inputs": TEXT, "parameters": LABELS}
    native = ask(service("bert_nli"), body)[1]
    answer = asked(service("bert_nli"), body)
    assert [each["label"] for each in answer] == native["labels"]
    assert [each["score"] for each in answer] == native["scores"]
    assert asked(service("bert_nli"), {**body, "inputs": [TEXT]}) == [answer]


def test_a_cut_text_is_told_with_each_label(service: Named) -> None:
    answer = asked(service("bert_nli"), {"inputs": TEXT * 50, "parameters": LABELS})
    assert [each["truncated"] for each in answer] == [True, True]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bert", {"text": TEXT}),
        ("bert", [TEXT]),
        ("bert", {"instances": [TEXT]}),
        ("bert_mlm", {"inputs": "It [MASK].", "parameters": {}}),
        ("bert_ner", {"inputs": TEXT, "parameters": {}}),
        ("bert_qa", {"inputs": {"question": "Why?", "context": TEXT}, "parameters": {}}),
        ("bert_embedding", {"inputs": [TEXT], "normalize": True}),
    ],
)
def test_other_forms_and_modes_are_answered_as_ever(
    service: Named, name: str, value: object
) -> None:
    assert asked(service(name), value) == asked(service(name), value, client="http")


def test_the_open_inference_protocol_is_not_taken_for_it(service: Named) -> None:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}
    [output] = asked(service("bert"), {"inputs": [tensor]})["outputs"]
    assert json.loads(output["data"][0])["label"]

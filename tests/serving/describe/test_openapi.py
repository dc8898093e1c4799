"""The OpenAPI document: valid, and true of requests, samples, documents and answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.serving.helpers import BUNDLE, CPU, EACH_MODE, WRITING, ask, post, raw, read
from torchscript_bundle.server import ROOT
from torchscript_bundle.serving.api.http import HttpRequest
from torchscript_bundle.serving.artifact import Bundle, ServingOptions
from torchscript_bundle.serving.describe.openapi import describe_api, describe_folder
from torchscript_bundle.serving.modes import MODES, load_mode
from torchscript_bundle.serving.service import Service

Named = Callable[[str], Service]

#: Folders of samples -> checkpoints of their modes.
SAMPLES = {
    "Seq_classification_artifacts": "bert",
    "Token_classification_artifacts": "bert_ner",
    "Fill_mask_artifacts": "bert_mlm",
    "QA_artifacts": "bert_qa",
    "Embedding_artifacts": "roberta_embedding",
    "Sparse_embedding_artifacts": "roberta_sparse",
    "Reranking_artifacts": "bert_reranker",
    "Zero_shot_artifacts": "bert_nli",
}
LONG = "It works as described; " * 30
OPTIONS = ServingOptions(
    batch_size=8,
    max_client_batch=7,
    response_timeout=120,
    max_call_seconds=3.0,
    explanation_steps=9,
    explanation_batch_size=16,
    on_too_long="truncate",
    packed_weights=True,
    padding="longest",
)


def document(service: Service) -> dict[str, Any]:
    """What the service tells about itself."""
    return dict(service.describe()["openapi"])


def schema(api: dict[str, Any], name: str) -> Draft202012Validator:
    """A validator of one of the document's schemas."""
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", **api})


def problems(api: dict[str, Any], name: str, value: object) -> list[str]:
    return [error.message for error in schema(api, name).iter_errors(value)]


def test_every_mode_is_looked_at(artifact: Callable[[str], Path]) -> None:
    assert {Bundle.load(artifact(name)).mode for name in EACH_MODE} == set(MODES) - WRITING
    assert sorted(SAMPLES.values()) == sorted(EACH_MODE)
    folders = {path.name for path in ROOT.glob("*_artifacts")}
    assert set(SAMPLES) == {name for name in folders if "generation" not in name}


@pytest.mark.parametrize("name", EACH_MODE)
def test_the_document_is_valid_and_small(
    service: Named, artifact: Callable[[str], Path], name: str
) -> None:
    api = document(service(name))
    OpenAPIV31SpecValidator(api).validate()
    assert len(json.dumps(api)) < 40_000
    [response] = service(name).answer([HttpRequest({}, {}, purpose="describe")])
    assert (response.status, read(response)["openapi"]) == (200, api)
    assert api == describe_folder(artifact(name), "")


def test_names_addresses_and_bounds_are_the_models_own() -> None:
    api = describe_api(BUNDLE, load_mode(BUNDLE), "reviews", OPTIONS)
    assert list(api["paths"]) == [
        "/predictions/reviews",
        "/predictions/reviews/1.0",
        "/v1/models/reviews:predict",
        "/v2/models/reviews/infer",
        *(f"/predictions/reviews/1.0/{path}" for path in ("predict", "tokenize", "info")),
    ]
    assert api["info"]["x-mode"] == "sequence_classification"
    assert problems(api, "Request", ["a"] * 7) == []
    assert problems(api, "Request", ["a"] * 8)
    assert problems(api, "Request", {"instances": ["a"] * 8})
    assert problems(api, "Answer", {"label": "GLAD", "score": 0.5}) == []
    assert problems(api, "Answer", {"label": "BLUE", "score": 0.5})


def test_very_many_labels_do_not_make_a_large_document() -> None:
    labels = tuple(f"product {at}" for at in range(200_000))
    bundle = replace(BUNDLE, labels=labels)
    api = describe_api(bundle, load_mode(bundle), "products", OPTIONS)
    assert len(json.dumps(api)) < 40_000
    assert problems(api, "Answer", {"label": labels[-1], "score": 0.5}) == []


def test_tensors_and_plain_text_are_offered_where_they_can_be_sent(service: Named) -> None:
    found = {}
    for name in EACH_MODE:
        api = document(service(name))
        content = api["components"]["requestBodies"]["Request"]["content"]
        found[name] = ("text/plain" in content, "OpenInferenceRequest" in str(api))
    both = (True, True)
    neither, tensors = (False, False), (False, True)
    assert found == {
        **dict.fromkeys(
            ("bert", "bert_ner", "bert_mlm", "roberta_embedding", "roberta_sparse"), both
        ),
        **{"bert_qa": tensors, "bert_reranker": neither, "bert_nli": tensors},
    }


@pytest.mark.parametrize("name", EACH_MODE)
def test_the_examples_are_answered_as_the_document_says(service: Named, name: str) -> None:
    api = document(service(name))
    content = api["components"]["requestBodies"]["Request"]["content"]
    requests = [example["value"] for example in content["application/json"]["examples"].values()]
    assert len(requests) >= 3
    for request in [*requests, EACH_MODE[name]]:
        assert problems(api, "Request", request) == []
        status, answer = ask(service(name), request)
        assert (status, problems(api, "Reply", answer)) == (200, []), answer
    if "text/plain" in content:
        [response] = service(name).answer(
            [raw(content["text/plain"]["example"].encode(), "text/plain")]
        )
        assert (response.status, problems(api, "Reply", read(response))) == (200, [])


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("bert", {"text": LONG}),
        ("bert", {"id": "7", "inputs": [{"name": "x", "shape": [1], "datatype": "BYTES"}]}),
        ("bert_ner", {"text": LONG}),
        ("bert_ner", {"text": "Café", "aggregation_strategy": "none", "ignore_labels": []}),
        ("bert_ner", {"text": "Café", "aggregation_strategy": "max", "ignore_labels": []}),
        ("bert_mlm", {"text": "It [MASK]", "targets": ["the"]}),
        ("bert_mlm", {"text": "[MASK] " + LONG}),
        ("bert_qa", {"question": "a", "context": LONG, "handle_impossible_answer": True}),
        ("roberta_embedding", {"text": LONG, "normalize": True}),
        ("bert_reranker", {"query": "a", "passages": [LONG, "a"], "raw_scores": True, "top_n": 2}),
        ("bert_nli", {"instances": [LONG], "parameters": {"candidate_labels": ["a", "b"]}}),
    ],
)
def test_answers_are_what_the_document_says(service: Named, name: str, request_: Any) -> None:
    for tensor in request_.get("inputs", []):
        tensor["data"] = [LONG]
    api = document(service(name))
    assert problems(api, "Request", request_) == []
    status, answer = ask(service(name), request_)
    assert (status, problems(api, "Reply", answer)) == (200, []), answer
    form = "KServeReply" if "instances" in request_ else "NativeReply"
    form = "OpenInferenceReply" if "id" in request_ else form
    assert problems(api, form, answer) == []
    inner = answer if form == "NativeReply" else [*answer.values()][-1][0]
    if form == "OpenInferenceReply":
        inner = json.loads(inner["data"][0])
    assert problems(api, "Answer", inner) == []


WRONG: list[object] = [
    *(None, 5, [], "", {}, [None], {"text": 5}, {"secret": "a"}),
    *({"instances": "a"}, {"instances": []}, {"inputs": "a", "data": "a"}),
    *({"inputs": "a", "parameters": {"secret": 1}}, {"inputs": "a", "parameters": None}),
    {"inputs": [{"name": "text", "shape": [1], "datatype": "FP32", "data": [1]}]},
    {"inputs": [{"name": "text", "datatype": "BYTES", "data": ["a"]}]},
    {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a", ["b"]]}]},
    {"query": "a", "passages": ["b"], "texts": ["b"]},
    {"text": "a", "candidate_labels": []},
    {"question": "a", "context": " "},
]


@pytest.mark.parametrize("name", EACH_MODE)
def test_what_the_document_excludes_is_refused_in_its_form(service: Named, name: str) -> None:
    api = document(service(name))
    for request in WRONG:
        status, answer = ask(service(name), request)
        assert problems(api, "Request", request), request
        assert (status, problems(api, "Error", answer)) == (422, []), request


def test_a_parameter_that_a_mode_needs_may_stand_in_either_place(service: Named) -> None:
    api = document(service("bert_nli"))
    labels = {"candidate_labels": ["a"]}
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    for request in (
        {"text": "a", **labels},
        {"text": "a", "parameters": labels},
        {"text": ["a"], "parameters": labels},
        {"instances": ["a"], "parameters": labels},
        {"inputs": [tensor], "parameters": labels},
        {"inputs": [{**tensor, "parameters": labels}]},
    ):
        assert problems(api, "Request", request) == []
        assert ask(service("bert_nli"), request)[0] == 200
    for wrong in ({"text": "a"}, "a", ["a"], {"instances": ["a"]}, {"inputs": [tensor]}):
        assert problems(api, "Request", wrong)
        assert ask(service("bert_nli"), wrong)[0] == 422


@pytest.mark.parametrize("name", ["bert", "bert_qa", "bert_ner"])
def test_explanations_are_in_the_document_of_an_archive_that_has_them(
    service: Named, explained: Callable[[str], Path], name: str
) -> None:
    assert "/explanations/m" not in document(service(name))["paths"]
    explaining = Service(explained(name), CPU, "m")
    api = document(explaining)
    OpenAPIV31SpecValidator(api).validate()
    assert {"/explanations/m", "/v1/models/m:explain"} < set(api["paths"])
    content = api["components"]["requestBodies"]["ExplainedRequest"]["content"]
    for example in content["application/json"]["examples"].values():
        wanted = {"n_steps": 3} if isinstance(example["value"], dict) else {}
        parameters = {**example["value"].get("parameters", {}), **wanted}
        request = {**example["value"], "parameters": parameters}
        assert problems(api, "ExplainedRequest", request) == []
        [response] = explaining.answer([replace(post(request), purpose="explain")])
        answer = read(response)
        assert (response.status, problems(api, "ExplainedReply", answer)) == (200, []), answer
    assert problems(api, "ExplainedRequest", {"inputs": "a", "parameters": {"n_steps": 51}})


def test_plain_answers_are_texts(service: Named) -> None:
    [response] = service("bert").answer([post("a", accept="text/plain")])
    answer = document(service("bert"))["components"]["responses"]["Answer"]["content"]
    assert response.content_type.split(";")[0] in answer


@pytest.mark.parametrize("folder", SAMPLES)
def test_the_samples_are_what_the_document_takes(service: Named, folder: str) -> None:
    api = document(service(SAMPLES[folder]))
    samples = [path for path in (ROOT / folder).iterdir() if path.name.startswith("sample")]
    assert samples
    for path in samples:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text) if text.lstrip()[0] in "[{" else text
        assert problems(api, "Request", value) == [], path
        [response] = service(SAMPLES[folder]).answer([raw(path.read_bytes())])
        assert (response.status, problems(api, "Reply", read(response))) == (200, []), path


def examples(text: str) -> list[Any]:
    """The JSON in a text's code: in blocks, whole or a line each, and objects in its lines."""
    blocks = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`(\[?\{\"[^`\n]*)`", text)
    return [
        value
        for code in (*blocks, *(line for block in blocks for line in block.splitlines()), *spans)
        if (value := parsed(code)) is not None
    ]


def parsed(code: str) -> Any:
    """The value; None for a part of one, and where `...` stands for a value."""
    try:
        return json.loads(code)
    except ValueError:
        return None


def test_the_examples_of_the_documents_are_what_the_document_takes(
    service: Named, artifact: Callable[[str], Path]
) -> None:
    """Each section of docs/requests.md and each row of docs/modes.md's table."""
    titles = {Bundle.load(artifact(name)).mode: name for name in EACH_MODE}
    titles["sequence_classification"] = "distilbert"  # whose labels are the documents'
    page = (ROOT / "docs" / "requests.md").read_text(encoding="utf-8")
    modes = (ROOT / "docs" / "modes.md").read_text(encoding="utf-8")
    table = modes.split("| `mode` | request |")[1]
    general = ("The native form", "KServe's first protocol", "The Open Inference Protocol (KServe'")
    sections = {
        section.splitlines()[0].lower().replace(" ", "_").replace("-", "_"): section
        for section in page.split("\n## ")[1:]
        if section.startswith(general) or "| parameter | default |" in section
    }
    rows = [
        (row.split("`")[1], row.split("|", 2)[2])
        for row in table.split("\n\n")[0].splitlines()[2:]
        if row.split("`")[1] not in WRITING
    ]
    checked = []
    for title, text in (*sections.items(), *rows):
        api = document(service(titles.get(title, "distilbert")))
        for example in examples(text):
            fits = [name for name in ("Request", "Reply") if schema(api, name).is_valid(example)]
            assert fits, (title, example)
            checked.append(title)
    assert set(checked) >= set(titles)
    assert len(checked) > 25

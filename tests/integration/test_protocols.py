"""KServe's protocols on a live server, at every address where their clients look for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.conftest import Site
from tests.integration.helpers import close
from torchscript_bundle.export.archive import VERSION
from torchscript_bundle.server import Answer

TEXTS = ["We waited an hour for cold soup.", "It works.", "hour " * 500]
PAIRS = [("Not bad at all.", "I would stay there again."), ("x", "It works as described.")]
ADDRESSES = [
    "/predictions/under_test",
    f"/predictions/under_test/{VERSION}",
    "/v1/models/under_test:predict",
    "/v2/models/under_test/infer",
]

each_address = pytest.mark.parametrize("address", ADDRESSES)


def send(site: Site, address: str, value: object, accept: str = "*/*") -> Answer:
    """The answer to a JSON body."""
    headers = {"Content-Type": "application/json", "Accept": accept}
    url = f"http://127.0.0.1:{site.port('inference')}{address}"
    body = json.dumps(value).encode()
    return site.server.request("POST", url, "inference", body=body, headers=headers)


def tensor(name: str, texts: list[str]) -> dict[str, Any]:
    return {"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": texts}


def elements(answer: Answer) -> list[Any]:
    """The answers in an Open Inference reply."""
    assert answer.status == 200, answer
    [output] = answer.json()["outputs"]
    assert (output["name"], output["datatype"]) == ("answers", "BYTES")
    assert output["shape"] == [len(output["data"])]
    return [json.loads(each) for each in output["data"]]


@each_address
def test_texts_get_the_answers_of_the_native_form(tiny_site: Site, address: str) -> None:
    expected = send(tiny_site, ADDRESSES[0], TEXTS).json()
    assert [entry.get("truncated") for entry in expected] == [None, None, True]
    assert close(send(tiny_site, address, {"inputs": TEXTS}).json(), expected)
    old = send(tiny_site, address, {"instances": TEXTS})
    assert old.status == 200, old
    assert list(old.json()) == ["predictions"]
    assert close(old.json()["predictions"], expected)
    new = send(tiny_site, address, {"id": "seven", "inputs": [tensor("text", TEXTS)]})
    assert close(elements(new), expected)
    signature = {"id": "seven", "model_name": "under_test", "model_version": VERSION}
    assert {key: new.json()[key] for key in signature} == signature


@each_address
def test_pairs_get_the_answers_of_the_native_form(tiny_site: Site, address: str) -> None:
    items = [{"text": text, "text_pair": pair} for text, pair in PAIRS]
    expected = send(tiny_site, ADDRESSES[0], items).json()
    assert close(send(tiny_site, address, {"instances": items}).json()["predictions"], expected)
    columns = [tensor(name, [item[name] for item in items]) for name in ("text", "text_pair")]
    assert close(elements(send(tiny_site, address, {"inputs": columns})), expected)


@each_address
def test_parameters_and_plain_text(tiny_site: Site, address: str) -> None:
    option = {"parameters": {"top_k": 2}}
    expected = send(tiny_site, ADDRESSES[0], {"inputs": TEXTS[:2], **option}).json()
    labels = [entry["label"] for answer in expected for entry in answer]
    for value in ({"instances": TEXTS[:2]}, {"inputs": [tensor("text", TEXTS[:2])]}):
        bare = send(tiny_site, address, {**value, **option}, accept="text/plain")
        assert (bare.status, bare.content_type) == (200, "text/plain; charset=utf-8")
        assert bare.body.decode().split("\n") == labels


@each_address
@pytest.mark.parametrize(
    ("value", "status", "says"),
    [
        ({"instances": "x"}, 422, "instances must be a list"),
        ({"instances": ["x"] * 5}, 413, "at most 4"),
        ({"inputs": [{**tensor("text", ["x"]), "datatype": "FP32"}]}, 422, "datatype BYTES"),
        ({"inputs": [tensor("text", ["x", ""])]}, 422, "item 1 of the list: the text is empty"),
    ],
)
def test_wrong_requests_are_told(
    tiny_site: Site, address: str, value: object, status: int, says: str
) -> None:
    answer = send(tiny_site, address, value)
    assert answer.status == status, answer
    assert says in answer.json()["error"]

"""TorchServe's gRPC services, asked by clients made from its own definitions."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.conftest import Site
from tests.integration.grpc_stubs import PATIENCE, PROTOS, Stubs, make
from tests.integration.helpers import close
from torchscript_bundle.export.archive import VERSION
from torchscript_bundle.server import ROOT
from torchscript_bundle.serving.api.http import MAX_RESPONSE_SIZE

TEXTS = ["We waited an hour for cold soup.", "It works: été."]
RUBBISH = bytes(range(256))


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory, tiny_site: Site) -> Iterator[Stubs]:
    stubs = Stubs(make(tmp_path_factory.mktemp("stubs")), tiny_site)
    yield stubs
    stubs.channel.close()


@pytest.fixture(autouse=True)
def worker_survives(tiny_site: Site) -> Iterator[None]:
    """No test of this file may cost a worker, whatever it sends."""
    before = tiny_site.server.worker_pids
    yield
    assert tiny_site.server.predict(b"Still there?").status == 200
    assert tiny_site.server.worker_pids == before


def rest(site: Site, value: object) -> Any:
    answer = site.server.predict(json.dumps(value).encode(), content_type="application/json")
    assert answer.status == 200, answer
    return answer.json()


def elements(reply: Any) -> tuple[str, list[Any]]:
    """Name and elements of a reply's only output."""
    assert (reply.id, reply.model_name, reply.model_version) == ("7", "under_test", VERSION)
    [output] = reply.outputs
    assert (output.datatype, list(output.shape)) == ("BYTES", [len(output.contents.bytes_contents)])
    return output.name, [json.loads(each) for each in output.contents.bytes_contents]


@pytest.mark.parametrize("proto", PROTOS)
def test_definitions_are_those_of_the_server(proto: str) -> None:
    spec = find_spec("ts")
    assert spec is not None and spec.submodule_search_locations is not None
    jar = Path(spec.submodule_search_locations[0]) / "frontend" / "model-server.jar"
    with zipfile.ZipFile(jar) as content:
        assert (ROOT / "examples" / "grpc" / proto).read_bytes() == content.read(proto)


@pytest.mark.parametrize("key", ["data", "body"])
@pytest.mark.parametrize(
    "value", [TEXTS[1], TEXTS, {"text": TEXTS[0], "top_k": 2}, {"inputs": TEXTS}]
)
def test_text_and_json_get_the_answers_of_rest(stubs: Stubs, key: str, value: object) -> None:
    sent = value if isinstance(value, str) else json.dumps(value)
    answer = json.loads(stubs.predict(**{key: sent.encode()}))
    assert close(answer, rest(stubs.site, value))


def test_a_form_field_stays_a_text(stubs: Stubs) -> None:
    """What a gRPC map takes as JSON is, in a form, the text that it looks like."""
    text = '["one", "two"]'
    body = f'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n{text}\r\n--x--\r\n'
    form = stubs.site.server.predict(
        body.encode(), content_type="multipart/form-data; boundary=x"
    ).json()
    assert close(form, rest(stubs.site, {"text": text}))
    assert len(json.loads(stubs.predict(data=text.encode()))) == 2


@pytest.mark.parametrize(
    ("entries", "status", "says"),
    [
        ({}, 400, "must hold one entry"),
        ({"text": b"a"}, 400, "must hold one entry"),
        ({"data": b"a", "top_k": b"2"}, 400, "must hold one entry"),
        ({"data": b""}, 400, "empty"),
        ({"data": RUBBISH}, 400, "not UTF-8"),
        ({"data": b'{"text": 5}'}, 422, "send a string"),
        ({"data": json.dumps(["x"] * 5).encode()}, 413, "at most 4"),
        ({"data": b"[" * 100_000}, 200, ""),
        ({"describe": b"True", "explain": b"True"}, 400, "must hold one entry"),
    ],
)
def test_errors_have_their_status_beside_them(
    stubs: Stubs, entries: dict[str, bytes], status: int, says: str
) -> None:
    answer = json.loads(stubs.predict(**entries))
    assert answer.get("status", 200) == status, answer
    assert says in answer.get("error", "")


@pytest.mark.parametrize("data", [b"It works.", b"", RUBBISH])
def test_a_stream_of_one_answer(stubs: Stubs, data: bytes) -> None:
    request = stubs.request(data=data)
    [reply] = stubs.inference.StreamPredictions(request, metadata=stubs.key, timeout=PATIENCE)
    answer = json.loads(reply.prediction)
    assert "label" in answer if data == b"It works." else answer["status"] == 400


def test_open_inference_gets_the_answers_of_rest(stubs: Stubs) -> None:
    name, answers = elements(stubs.infer([stubs.tensor(*(text.encode() for text in TEXTS))]))
    assert name == "answers"
    assert close(answers, rest(stubs.site, TEXTS))
    pair = [stubs.tensor(b"a", name="text_pair"), stubs.tensor("é".encode(), name="text")]
    _, answers = elements(stubs.infer(pair))
    assert close(answers, rest(stubs.site, [{"text": "é", "text_pair": "a"}]))


def wrong_tensors(stubs: Stubs) -> dict[str, tuple[dict[str, Any], int, str]]:
    """What is wrong -> the message's members, and what it gets."""
    tensor, contents = stubs.tensor, stubs.oip.InferTensorContents
    text = tensor(b"a")
    return {
        "no inputs": ({"inputs": []}, 422, "bytes_contents"),
        "raw contents": (
            {"inputs": [tensor(shape=[1])], "raw_input_contents": [b"\1\0\0\0a"]},
            422,
            "raw_input_contents",
        ),
        "no elements": ({"inputs": [tensor()]}, 422, "bytes_contents"),
        "empty text": ({"inputs": [tensor(b"")]}, 422, "is empty"),
        "rubbish": ({"inputs": [tensor(RUBBISH)]}, 400, "not UTF-8"),
        "shape": ({"inputs": [tensor(b"a", shape=[2])]}, 422, "shape"),
        "negative shape": ({"inputs": [tensor(b"a", shape=[-1])]}, 422, "shape"),
        "huge shape": ({"inputs": [tensor(b"a", shape=[2**62] * 9)]}, 422, "shape"),
        "numbers": (
            {"inputs": [tensor(datatype="INT64", contents=contents(int64_contents=[1]))]},
            422,
            "datatype BYTES",
        ),
        "floats": (
            {"inputs": [tensor(datatype="FP32", contents=contents(fp32_contents=[1.5]))]},
            422,
            "datatype BYTES",
        ),
        "no such datatype": ({"inputs": [tensor(b"a", datatype="STRING")]}, 422, "BYTES"),
        "no datatype": ({"inputs": [tensor(b"a", datatype="")]}, 422, "datatype BYTES"),
        "twice": ({"inputs": [text, text]}, 422, "same name"),
        "names": ({"inputs": [text, tensor(b"a", name="x")]}, 422, "text, text_pair"),
        "too many": ({"inputs": [tensor(*[b"a"] * 5)]}, 413, "at most 4"),
    }


def test_open_inference_errors_are_whole_replies(stubs: Stubs) -> None:
    for what, (message, status, says) in wrong_tensors(stubs).items():
        name, [answer] = elements(stubs.infer(message.pop("inputs"), **message))
        assert name == "error", what
        assert answer["status"] == status, (what, answer)
        assert says in answer["error"], (what, answer)


def test_without_an_id_the_reply_has_an_empty_one(stubs: Stubs) -> None:
    assert stubs.infer([stubs.tensor(b"a")], id="").id == ""
    assert stubs.infer([stubs.tensor(b"")], id="").outputs[0].name == "error"


def test_what_torchserve_says_of_itself(stubs: Stubs) -> None:
    oip, ask = stubs.oip, stubs.open_inference
    options: dict[str, Any] = {"metadata": stubs.key, "timeout": PATIENCE}
    assert ask.ServerLive(oip.ServerLiveRequest(), **options).live
    assert ask.ServerReady(oip.ServerReadyRequest(), **options).ready
    assert ask.ModelReady(oip.ModelReadyRequest(name="under_test"), **options).ready
    facts = ask.ModelMetadata(oip.ModelMetadataRequest(name="under_test"), **options)
    assert (facts.name, list(facts.versions), len(facts.inputs)) == ("under_test", [VERSION], 0)


def calls(stubs: Stubs) -> dict[str, tuple[Callable[[], Any], grpc.StatusCode]]:
    """What TorchServe refuses by itself, and with which code."""
    oip, native, ask = stubs.oip, stubs.inference, stubs.open_inference
    options: dict[str, Any] = {"metadata": stubs.key, "timeout": PATIENCE}
    text = stubs.request(data=b"a")
    bad_key = (("authorization", "Bearer x"),)
    nan = stubs.tensor(datatype="FP32", contents=oip.InferTensorContents(fp32_contents=[1e999]))
    sequence = stubs.native.PredictionsRequest(
        model_name="under_test", input={"data": b"a"}, sequence_id="1"
    )
    code = grpc.StatusCode
    return {
        "no key": (lambda: native.Predictions(text, timeout=PATIENCE), code.PERMISSION_DENIED),
        "bad key": (
            lambda: native.Predictions(text, metadata=bad_key, timeout=PATIENCE),
            code.PERMISSION_DENIED,
        ),
        "no such model": (
            lambda: native.Predictions(stubs.request("x", data=b"a"), **options),
            code.INTERNAL,
        ),
        "no such model for ModelInfer": (lambda: stubs.infer([], model_name="x"), code.INTERNAL),
        "no such model for ModelReady": (
            lambda: ask.ModelReady(oip.ModelReadyRequest(name="x"), **options),
            code.NOT_FOUND,
        ),
        "metadata of the server": (
            lambda: ask.ServerMetadata(oip.ServerMetadataRequest(), **options),
            code.UNIMPLEMENTED,
        ),
        "a number that JSON does not have": (lambda: stubs.infer([nan]), code.UNKNOWN),
        "a message over max_request_size": (
            lambda: stubs.predict(data=b"a" * 1_100_000),
            code.CANCELLED,
        ),
        "a sequence": (
            lambda: list(native.StreamPredictions2(iter([sequence]), **options)),
            code.UNKNOWN,
        ),
    }


def test_what_torchserve_refuses_by_itself(stubs: Stubs) -> None:
    for what, (call, code) in calls(stubs).items():
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is code, what


def test_clients_that_leave_cost_nothing(stubs: Stubs) -> None:
    """They wait in line while the worker stands still."""
    options: dict[str, Any] = {"metadata": stubs.key, "timeout": 0.5}
    text = stubs.request(data=b"a")
    with stubs.site.frozen():
        for leave in (
            lambda: stubs.inference.Predictions(text, **options),
            lambda: stubs.inference.StreamPredictions(text, **options).next(),
            lambda: stubs.infer([stubs.tensor(b"a")], timeout=0.5),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                leave()
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_bound_of_answers_is_that_of_the_server(tiny_site: Site) -> None:
    assert tiny_site.server.properties()["max_response_size"] == str(MAX_RESPONSE_SIZE)

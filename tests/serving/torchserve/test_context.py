"""TorchServe's own request and context classes -> our requests and back, and the handler."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving.torchserve.helpers import Frame, Headers, frame, receive
from torchscript_bundle.export.archive import VERSION
from torchscript_bundle.serving.api.http import Client, HttpRequest, HttpResponse
from torchscript_bundle.serving.errors import REASONS, ArtifactError
from torchscript_bundle.serving.torchserve.context import read_request, write_response
from Transformer_handler_generalized import TransformerHandler


def read_one(request: Frame) -> HttpRequest:
    [row], context = receive("", request)
    return read_request(row, context, 0)


@pytest.mark.parametrize("header", ["content-type", "Content-Type", "CONTENT-TYPE"])
def test_header_of_a_body_wins_over_the_stripped_content_type(header: str) -> None:
    sent = "text/plain; charset=latin-1"
    request = read_one(frame(("body", "text/plain", b"a"), headers={header: sent, "ACCEPT": "x/y"}))
    assert request == HttpRequest({"body": b"a"}, {"body": sent}, accept="x/y")


def test_body_without_headers_of_a_client_came_over_grpc() -> None:
    request = read_one(frame(("body", "", b"a")))
    assert request == HttpRequest({"body": b"a"}, {"body": ""}, accept="*/*", client="grpc")
    assert read_one(frame(("body", "application/json", b"{}"))).client == "open_inference_grpc"
    sequence = {"ts_request_sequence_id": "1", "ts_request_sequence_end": "true"}
    assert read_one(frame(("data", "", b"a"), headers=sequence)).client == "refused_grpc"


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ({"Host": "x"}, "http"),
        ({"host": "x", "user-agent": "curl/8"}, "http"),
        ({"User-Agent": "unknown/None; hf_hub/2.4.0; python/3.11.7"}, "huggingface_hub"),
    ],
)
def test_client_is_read_from_the_headers(headers: Headers, client: str) -> None:
    assert read_one(frame(("data", "", b"a"), headers=headers)).client == client


def test_size_of_the_json_before_binary_tensors() -> None:
    headers = {"Inference-Header-Content-Length": "12"}
    assert read_one(frame(("body", "", b"a"), headers=headers)).json_size == "12"


def test_fields_of_a_form_keep_their_own_content_types() -> None:
    sent = {"Content-Type": "multipart/form-data; boundary=x"}
    request = read_one(
        frame(("data", "application/json", b'["a"]'), ("x", "text/plain", b"b"), headers=sent)
    )
    assert request.fields == {"data": b'["a"]', "x": b"b"}
    assert request.content_types == {"data": "application/json", "x": "text/plain"}


@pytest.mark.parametrize(
    ("headers", "purpose"),
    [
        ({}, "predict"),
        ({"explain": "True"}, "explain"),
        ({"describe": "True"}, "describe"),
        ({"Explain": "True", "describe": "yes"}, "predict"),
    ],
)
def test_endpoint_is_read_from_the_headers_of_torchserve(headers: Headers, purpose: str) -> None:
    assert read_one(frame(("body", "", b""), headers=headers)).purpose == purpose


def test_a_text_is_answered_whatever_header_comes_with_it() -> None:
    assert read_one(frame(("body", "", b"a"), headers={"describe": "True"})).purpose == "predict"


def test_field_named_as_an_endpoint_is_a_field() -> None:
    request = read_one(frame(("explain", "True", b"True"), ("data", "", b"a")))
    assert (request.purpose, request.fields["explain"]) == ("predict", b"True")


def test_keys_of_the_client_are_left_behind() -> None:
    request = read_one(frame(("body", "", b"a"), headers={"Authorization": "Bearer secret"}))
    assert "secret" not in repr(request)


@pytest.mark.parametrize("status", REASONS)
def test_response_is_set_on_its_own_request_in_ascii(status: int) -> None:
    _, context = receive("", frame(("body", "", b"a")), frame(("body", "", b"b")))
    request = HttpRequest({"body": b"b"}, {})
    assert write_response(request, HttpResponse(status, "x/y", b"\xff"), context, 1) == b"\xff"
    assert context.get_response_status(1) == (status, REASONS[status])
    assert context.get_response_content_type(1) == "x/y"
    assert (context.get_response_status(0)[0], context.get_response_headers(0)) == (200, {})
    assert REASONS[status].isascii() and REASONS[status].isprintable()


def test_a_trace_comes_back_and_an_id_is_torchserves_to_send() -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    sent = frame(
        ("body", "", b"a"),
        headers={"Host": "x", "TraceParent": trace, "X-Request-ID": "7"},
        request_id="own",
    )
    [row, _], context = receive("", sent, frame(("body", "", b"b"), request_id="other"))
    request = read_request(row, context, 0)
    assert request.caller.ids == {"request_id": "7", "traceparent": trace}
    write_response(request, HttpResponse(200, "x/y", b""), context, 0)
    assert context.get_response_headers(0) == {"content-type": "x/y", "traceparent": trace}
    assert read_one(frame(("body", "", b"b"), request_id="own")).caller.ids == {"request_id": "own"}


@pytest.mark.parametrize("client", ["grpc", "open_inference_grpc"])
def test_answer_over_grpc_is_the_last_of_its_stream(client: Client) -> None:
    _, context = receive("", frame(("data", "", b"a")))
    request = HttpRequest({"data": b"a"}, {}, client=client)
    answer = HttpResponse(200, "application/json", b'{"a": 1}')
    assert write_response(request, answer, context, 0) == b'{"a": 1}'
    assert context.get_response_headers(0)["ts_stream_next"] == "false"


def test_call_that_torchserve_has_refused_gets_no_answer() -> None:
    _, context = receive("", frame(("data", "", b"a")), frame(("data", "", b"b")))
    request = HttpRequest({"data": b"a"}, {}, client="refused_grpc")
    write_response(request, HttpResponse(200, "x/y", b"{}"), context, 0)
    assert list(context.request_ids) == [1]


def test_error_over_grpc_has_its_status_beside_it() -> None:
    _, context = receive("", frame(("data", "", b"a")))
    request = HttpRequest({"data": b"a"}, {}, client="grpc")
    error = HttpResponse(422, "application/json", '{"error": "é"}'.encode())
    assert json.loads(write_response(request, error, context, 0)) == {"error": "é", "status": 422}


def test_error_of_the_open_inference_service_is_a_whole_reply() -> None:
    _, context = receive("", frame(("body", "application/json", b"{}")))
    body = b'{"id": "7", "model_name": "tiny", "inputs": []}'
    request = HttpRequest({"body": body}, {}, client="open_inference_grpc")
    error = HttpResponse(413, "application/json", b'{"error": "too much"}')
    reply = json.loads(write_response(request, error, context, 0))
    [output] = reply.pop("outputs")
    assert reply == {"id": "7", "model_name": "tiny", "model_version": VERSION}
    assert output == {
        "name": "error",
        "shape": [1],
        "datatype": "BYTES",
        "data": [{"error": "too much", "status": 413}],
    }


@pytest.fixture
def handler(artifact: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> TransformerHandler:
    monkeypatch.setenv("TS_DECODE_INPUT_REQUEST", "true")
    handler = TransformerHandler()
    handler.initialize(receive(artifact("bert"))[1])
    return handler


def test_handler_asks_for_bodies_as_they_were_sent(handler: TransformerHandler) -> None:
    assert os.environ["TS_DECODE_INPUT_REQUEST"] == "false"


def test_handler_answers_a_batch(
    handler: TransformerHandler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    private = {"Authorization": "Bearer secret"}
    batch = [
        frame(("body", "text/plain", "Café secret".encode()), headers=private),
        frame(headers=private),
        frame(("data", "", b"secret"), headers={**private, "Accept": "text/plain"}),
        frame(("body", "application/json", b"secret"), headers=private),
        frame(("body", "", b"secret"), headers={"explain": "True"}),
        frame(("body", "", b""), headers={"describe": "True"}),
    ]
    rows, context = receive("", *batch)
    bodies = handler.handle(rows, context)
    statuses = [context.get_response_status(at) for at in range(len(batch))]
    assert statuses == [(status, REASONS[status]) for status in (200, 400, 200, 400, 404, 200)]
    assert all(type(body) is bytes for body in bodies)
    assert json.loads(bodies[0])["label"] in ("SAD", "SO-SO", "GLAD")
    assert bodies[2].decode() in ("SAD", "SO-SO", "GLAD")
    assert context.get_response_content_type(2) == "text/plain; charset=utf-8"
    assert json.loads(bodies[5])["mode"] == "sequence_classification"
    assert "secret" not in caplog.text
    counted = {metric.name: metric.value for metric in context.metrics.store}
    assert counted.keys() == {"ComputedTokens", "PaddingTokens"}
    assert 0 <= counted["PaddingTokens"] < counted["ComputedTokens"]


def test_handler_refuses_a_folder_without_an_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"bundle\.json is missing"):
        TransformerHandler().initialize(receive(tmp_path)[1])

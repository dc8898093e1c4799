"""TorchServe's own request and context classes -> our requests and back, and the handler."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from torchscript_bundle.serving.errors import REASONS, ArtifactError
from torchscript_bundle.serving.http import HttpRequest, HttpResponse
from torchscript_bundle.serving.torchserve import read_request, write_response
from Transformer_handler_generalized import TransformerHandler

with warnings.catch_warnings():
    # ts/__init__.py leaves its version.txt open.
    warnings.simplefilter("ignore", ResourceWarning)
    from ts.context import Context
    from ts.service import Service as TorchServeService

Frame = dict[str, Any]
Headers = dict[str, str]


def frame(*parameters: tuple[str, str, bytes], headers: Headers | None = None) -> Frame:
    """One request as TorchServe's worker reads it off its socket."""
    return {
        "requestId": b"id",
        "parameters": [
            {"name": name, "contentType": content_type, "value": bytearray(value)}
            for name, content_type, value in parameters
        ],
        "headers": [
            {"name": name.encode(), "value": value.encode()}
            for name, value in (headers or {}).items()
        ],
    }


def receive(folder: Path | str, *frames: Frame) -> tuple[list[dict[str, Any]], Context]:
    """What TorchServe hands to a handler for a batch."""
    context = Context("tiny", str(folder), {}, len(frames), None, "0.12.0")
    processors, rows, context.request_ids = TorchServeService.retrieve_data_for_inference(frames)
    context.request_processor = processors
    return rows, context


def read_one(request: Frame) -> HttpRequest:
    [row], context = receive("", request)
    return read_request(row, context, 0)


@pytest.mark.parametrize("header", ["content-type", "Content-Type", "CONTENT-TYPE"])
def test_header_of_a_body_wins_over_the_stripped_content_type(header: str) -> None:
    sent = "text/plain; charset=latin-1"
    request = read_one(frame(("body", "text/plain", b"a"), headers={header: sent, "ACCEPT": "x/y"}))
    assert request == HttpRequest({"body": b"a"}, {"body": sent}, accept="x/y")


def test_body_without_headers() -> None:
    request = read_one(frame(("body", "", b"a")))
    assert request == HttpRequest({"body": b"a"}, {"body": ""}, accept="*/*")


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
    assert write_response(HttpResponse(status, "x/y", b"\xff"), context, 1) == b"\xff"
    assert context.get_response_status(1) == (status, REASONS[status])
    assert context.get_response_content_type(1) == "x/y"
    assert (context.get_response_status(0)[0], context.get_response_headers(0)) == (200, {})
    assert REASONS[status].isascii() and REASONS[status].isprintable()


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


def test_handler_refuses_a_folder_without_an_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"bundle\.json is missing"):
        TransformerHandler().initialize(receive(tmp_path)[1])

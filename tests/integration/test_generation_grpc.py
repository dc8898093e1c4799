"""Texts over gRPC, each whole, from the server that streams over HTTP."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator

import grpc
import pytest

from tests.integration.conftest import Site
from tests.integration.generation import MODEL, data
from tests.integration.grpc_stubs import PATIENCE, Stubs, make
from tests.serving.generation.helpers import Written

TEXT = "The film was long"


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory, writer_site: Site) -> Iterator[Stubs]:
    stubs = Stubs(make(tmp_path_factory.mktemp("stubs")), writer_site)
    yield stubs
    stubs.channel.close()


def predict(stubs: Stubs, value: object) -> object:
    request = stubs.request(MODEL, data=json.dumps(value).encode())
    reply = stubs.inference.Predictions(request, metadata=stubs.key, timeout=PATIENCE)
    return json.loads(reply.prediction)


def test_texts_and_errors(stubs: Stubs, writer: Written, writer_site: Site) -> None:
    before = writer_site.server.worker_pids
    expected = [{"generated_text": writer.greedy(TEXT, 9)[1]}]
    right = {"inputs": TEXT, "parameters": {"max_new_tokens": 9}}
    assert predict(stubs, right) == expected
    assert predict(stubs, {**right, "stream": True})["status"] == 422  # type: ignore[index]
    request = stubs.request(MODEL, data=json.dumps(right).encode())
    [reply] = stubs.inference.StreamPredictions(request, metadata=stubs.key, timeout=PATIENCE)
    assert json.loads(reply.prediction) == expected
    reply = stubs.infer([stubs.tensor(TEXT.encode())], model_name=MODEL)
    [element] = reply.outputs[0].contents.bytes_contents
    assert json.loads(element) == [{"generated_text": writer.greedy(TEXT, 20)[1]}]
    assert predict(stubs, right) == expected
    assert writer_site.server.worker_pids == before


def test_curl_prints_a_stream(writer_site: Site, writer: Written) -> None:
    """The command of docs/generation.md."""
    body = json.dumps({"inputs": TEXT, "parameters": {"max_new_tokens": 9}, "stream": True})
    key = writer_site.server.token("inference")
    done = subprocess.run(
        [
            *("curl", "-sN", writer_site.server.address, "-H", f"Authorization: Bearer {key}"),
            *("-H", "Content-Type: application/json", "-d", body),
        ],
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    events = [data(line) for line in done.stdout.splitlines() if line]
    assert [event["token"]["id"] for event in events] == writer.greedy(TEXT, 9)[0]


def test_call_that_torchserve_refuses_costs_no_worker(
    stubs: Stubs, writer: Written, writer_site: Site
) -> None:
    before = writer_site.server.worker_pids
    sequence = stubs.native.PredictionsRequest(
        model_name=MODEL, input={"data": TEXT.encode()}, sequence_id="1"
    )
    with pytest.raises(grpc.RpcError):
        list(
            stubs.inference.StreamPredictions2(
                iter([sequence]), metadata=stubs.key, timeout=PATIENCE
            )
        )
    right = {"inputs": TEXT, "parameters": {"max_new_tokens": 9}}
    assert predict(stubs, right) == [{"generated_text": writer.greedy(TEXT, 9)[1]}]
    assert writer_site.server.worker_pids == before
    time.sleep(1)
    calls = writer_site.worker_calls()
    time.sleep(1)
    assert writer_site.worker_calls() - calls < 20, "the call keeps a core busy"

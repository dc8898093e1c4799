"""What an operator sees of requests: logs without their texts, ids, traces, deadlines."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests import tiny
from tests.integration.conftest import Site
from tests.integration.grpc_stubs import Stubs, make
from tests.integration.helpers import free_ports, wait_until
from tests.otlp import Receiver, receiving
from tests.wrong import wire
from torchscript_bundle.server import LOG_CONFIG, Answer, launching
from torchscript_bundle.server.machine import java_home

MARKER = "zebrafish"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CLIENT}-01"
TEXT = (("Content-Type", b"text/plain"),)
FORM = (("Content-Type", b"application/x-www-form-urlencoded"),)
MULTIPART = (("Content-Type", b"multipart/form-data; boundary=x"),)
SETTLED_SECONDS = 1.0
#: Addresses of the inference port with a text in them; the model is `under_test`.
ADDRESSES = (
    *("?zebrafish", "%3Fzebrafish", ";zebrafish", "#zebrafish", "/zebrafish", '"zebrafish'),
    *("/1.0/zebrafish", "/1.0/zebrafish?zebrafish", "%2F1.0%2Fzebrafish", "/1.0;zebrafish"),
)
OTHER_ADDRESSES = (
    *("/predictions/zebrafish", "/predictions/a%20zebrafish%20b", "/predictions//zebrafish"),
    *("/zebrafish", "/zebrafish/predict", "/zebrafish/1.0/predict", "/ping/zebrafish"),
    *("/models/zebrafish/invoke", "/invocations?model_name=zebrafish", "//zebrafish"),
    *("/explanations/zebrafish", "/explanations/under_test/zebrafish", "/v1/models/zebrafish"),
    *("/v1/models/zebrafish:predict", "/v2/models/zebrafish/infer", "/v2/zebrafish"),
    *("http://zebrafish/predictions/under_test", "zebrafish", '/predictions/x"_2_200_1_zebrafish'),
)
BODIES = (
    *((TEXT, b"zebrafish \xff"), (FORM, b"data=zebrafish%"), (FORM, b"zebrafish=100%&data=a")),
    (
        MULTIPART,
        b'--x\r\nContent-Disposition: form-data; name="zebrafish"; filename="zebrafish"\r\n'
        b"Content-Type: zebrafish; charset=zebrafish \xc3\xa9\r\n\r\nzebrafish\r\n--x--\r\n",
    ),
    ((("Content-Type", b"application/json"),), b'{"inputs": zebrafish}'),
    ((("Content-Type", b"zebrafish/zebrafish; charset=zebrafish"),), b"zebrafish"),
)
HEADERS = (
    *(("X-Request-Id", b"a zebrafish"), ("X-Request-Id-Prefix", b"a zebrafish")),
    ("X-Request-Id-Prefix", b"a\x85zebrafish"),
    *(("traceparent", b"zebrafish"), ("X-Request-Deadline", b"zebrafish")),
    *(("X-Request-Start", b"zebrafish"), ("Accept", b"zebrafish/zebrafish")),
    *(("User-Agent", b"zebrafish"), ("zebrafish", b"zebrafish"), ("Host", b"zebrafish")),
    *(("Authorization", b"Bearer zebrafish"), ("Expect", b"zebrafish"), ("Upgrade", b"zebrafish")),
    *(
        ("Content-Encoding", b"zebrafish"),
        ("X-Bad", b"zebrafish\x00"),
        ("Content-Length", b"zebra"),
    ),
)
MANAGEMENT = (
    *(("GET", "/models/zebrafish"), ("PUT", "/models/zebrafish/set-default")),
    *(("PUT", "/models/under_test/zebrafish/set-default"), ("DELETE", "/models/zebrafish")),
    *(("PUT", "/models/zebrafish?min_worker=1"), ("POST", "/models?url=zebrafish")),
    *(("PUT", "/models/under_test?min_worker=zebrafish"), ("GET", "/models?limit=zebrafish")),
    *(("POST", "/workflows?url=zebrafish"), ("GET", "/workflows/zebrafish"), ("GET", "/zebrafish")),
    *(("GET", "/token?type=zebrafish"), ("GET", "/models/under_test/zebrafish?customized=true")),
)


def exchange(
    site: Site,
    path: str,
    *,
    method: str = "POST",
    port: str = "inference",
    headers: Any = TEXT,
    body: bytes = b"zebrafish",
    key: str = "inference",
) -> Answer:
    """The answer to a request that may be no HTTP; without a key for the empty one."""
    known = (("Authorization", f"Bearer {site.server.token(key)}".encode()),) if key else ()
    sent = wire.send(site.port(port), path, [*known, *headers], body, method)
    return wire.receive(sent)


def predict(site: Site, body: object, **headers: str) -> tuple[Any, dict[str, str]]:
    """Status and value of an answer, and its headers."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port("inference"), timeout=60)
    known = {
        "Authorization": f"Bearer {site.server.token('inference')}",
        "Content-Type": "application/json",
    }
    address = f"/predictions/{site.server.model}"
    connection.request("POST", address, json.dumps(body), {**known, **headers})
    response = connection.getresponse()
    found = response.status, json.loads(response.read())
    connection.close()
    return found, {name.lower(): value for name, value in response.getheaders()}


def test_no_place_that_a_client_can_write_to_is_logged(tiny_site: Site, tmp_path: Path) -> None:
    site = tiny_site
    model = f"/predictions/{site.server.model}"
    statuses = {
        *(exchange(site, model + each).status for each in ADDRESSES),
        *(exchange(site, each).status for each in OTHER_ADDRESSES),
        *(exchange(site, each, key="").status for each in OTHER_ADDRESSES),
        *(exchange(site, model, headers=typed, body=body).status for typed, body in BODIES),
        *(exchange(site, model, headers=(*TEXT, header)).status for header in HEADERS),
        exchange(site, model, method="ZEBRAFISH").status,
        exchange(site, "/metrics?name=zebrafish", method="GET", port="metrics").status,
    }
    for method, path in MANAGEMENT:
        for key in ("management", "API", ""):
            exchange(site, path, method=method, port="management", key=key, body=b"")
    assert {200, 400, 404, 415, 500} <= statuses
    # The version of the protocol; what follows is a header.
    wire.receive(wire.send(site.port("inference"), "/ping zebrafish/1.1\r\nX: ", ()))
    stubs = Stubs(make(tmp_path), site)
    for call in (
        lambda: stubs.inference.Predictions(
            stubs.request(MARKER, zebrafish=b"zebrafish"), metadata=stubs.key
        ),
        lambda: stubs.predict(zebrafish=b"zebrafish"),
        lambda: stubs.infer([stubs.tensor(b"zebrafish", name=MARKER)], id=MARKER),
        lambda: stubs.infer([stubs.tensor(b"a", datatype=MARKER)], model_name=MARKER),
        lambda: [
            *stubs.inference.StreamPredictions2(
                iter(
                    [
                        stubs.native.PredictionsRequest(
                            model_name=site.server.model,
                            model_version=version,
                            sequence_id=MARKER,
                            input={"data": b"zebrafish"},
                        )
                        for version in ("", MARKER)
                    ]
                ),
                metadata=stubs.key,
            )
        ],
        lambda: stubs.open_inference.ModelReady(
            stubs.oip.ModelReadyRequest(name=MARKER), metadata=stubs.key
        ),
    ):
        try:
            call()
        except grpc.RpcError:
            continue
    stubs.channel.close()
    time.sleep(SETTLED_SECONDS)
    lines = [line for line in site.logs().splitlines() if MARKER in line.lower()]
    assert lines == []


def test_an_exception_of_the_http_layer_is_logged_by_its_class(tiny_site: Site) -> None:
    """And by the place that threw it, without what it says."""
    exchange(tiny_site, f"/predictions/{tiny_site.server.model}", headers=FORM, body=b"data=100%")
    log = tiny_site.server.log_dir / "http_log.log"
    wait_until(lambda: "ErrorDataDecoderException at" in log.read_text(), "no class is logged")
    assert "100%" not in log.read_text()


def test_the_access_log_has_the_kind_of_address_and_the_served_model(tiny_site: Site) -> None:
    model = tiny_site.server.model
    assert exchange(tiny_site, f"/predictions/{model}?a=b").status == 200
    assert exchange(tiny_site, "/predictions/unknown").status == 404
    log = tiny_site.server.log_dir / "access_log.log"
    wait_until(lambda: f'"POST /predictions/{model}" 200 ' in log.read_text(), "not logged")
    wait_until(lambda: '"POST /predictions" 404 ' in log.read_text(), "not logged")


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def observed(
    build: Callable[..., Path],
    start_site: Callable[..., Site],
    tmp_path_factory: pytest.TempPathFactory,
    receiver: Receiver,
) -> Site:
    """A tiny BERT whose logs are JSON, with a line for each request, and whose spans are sent."""
    folder = tmp_path_factory.mktemp("observed")
    checkpoint = tiny.save_checkpoint(folder / "checkpoint")
    archive = build(folder, checkpoint, max_length=64, batch_size=8, max_batch_delay=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOG_FORMAT", "json")
        patch.setenv("LOG_LEVEL", "debug")
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        return start_site(checkpoint, archive)


def lines(site: Site, name: str) -> list[dict[str, Any]]:
    """The lines of a log, each of which is an object."""
    text = (site.server.log_dir / f"{name}.log").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_an_id_and_a_trace_reach_the_workers_line_and_come_back(observed: Site) -> None:
    sent = {"X-Request-Id": "order-66", "traceparent": TRACEPARENT}
    (status, _), headers = predict(observed, "It works.", **sent)
    assert (status, headers["traceparent"]) == (200, TRACEPARENT)
    _, unnamed = predict(observed, "It works.")

    def told() -> dict[str, dict[str, Any]]:
        said = [line for line in lines(observed, "model_log") if "answered" in line["message"]]
        return {line["request_id"]: line for line in said}

    # TorchServe has an id of its own, and answers with it, whatever was sent.
    wait_until(lambda: unnamed["x-request-id"] in told(), "the request is not in the log")
    line = told()["order-66"]
    assert (line["traceparent"], line["level"]) == (TRACEPARENT, "DEBUG")
    assert line["message"].startswith("answered 200 after ")
    assert "traceparent" not in told()[unnamed["x-request-id"]]


def test_a_bad_id_or_trace_is_dropped(observed: Site) -> None:
    for bad in ("é", "a b", "x" * 200, "a\tb"):
        (status, _), headers = predict(observed, "a", **{"X-Request-Id": bad, "traceparent": bad})
        assert (status, headers.get("traceparent")) == (200, None)


def test_every_line_is_an_object(observed: Site) -> None:
    """Of TorchServe and its workers, exceptions included."""
    predict(observed, "It works.")
    exchange(observed, "/predictions/unknown", body=b"a")
    form = (*FORM, ("X-Request-Id-Prefix", b'"\\'))
    exchange(observed, f"/predictions/{observed.server.model}", headers=form, body=b"data=1%")
    time.sleep(SETTLED_SECONDS)
    names = ("access_log", "model_log", "ts_log", "http_log", "model_metrics", "ts_metrics")
    found = {name: lines(observed, name) for name in names}
    assert all("time" in line for log in found.values() for line in log)
    assert all("message" in line for name in names[1:] for line in found[name])
    assert {(each["path"], each["status"]) for each in found["access_log"]} >= {
        (f"/predictions/{observed.server.model}", 200),
        ("/predictions", 404),
    }
    [thrown] = {line["exception"].split(" at ")[0] for line in found["http_log"]}
    assert thrown.endswith("ErrorDataDecoderException")


def test_the_spans_of_a_request_continue_the_clients_trace(
    observed: Site, receiver: Receiver
) -> None:
    started = f"t={time.time() - 0.5:.3f}"
    predict(observed, MARKER, **{"traceparent": TRACEPARENT, "X-Request-Start": started})
    names = {"request", "queue", "tokenize", "forward", "encode"}

    def spans() -> dict[str, Any]:
        known = {span.id for span in receiver.named("queue", TRACE)}
        of = {span.parent for span in receiver.named("queue", TRACE)}
        related = [span for span in receiver.spans if {span.id, span.parent} & (of | known)]
        return {span.name: span for span in related}

    wait_until(lambda: {*spans()} == names, "the spans do not come")
    found = spans()
    assert (found["request"].trace, found["request"].parent) == (TRACE, CLIENT)
    assert {found[each].parent for each in names - {"request"}} == {found["request"].id}
    assert found["queue"].end - found["queue"].start > 0.5e9
    assert found["queue"].end <= found["tokenize"].start < found["forward"].start
    assert found["forward"].end <= found["encode"].start <= found["request"].end
    assert not [body for body in receiver.bodies if MARKER.encode() in body]


def test_a_pass_of_two_requests_is_linked_to_both(observed: Site, receiver: Receiver) -> None:
    traces = [f"{at:032x}" for at in (1, 2)]
    sent = [{"traceparent": f"00-{trace}-{CLIENT}-01"} for trace in traces]
    observed.in_one_call(
        [
            lambda each=each: Answer(predict(observed, "It works.", **each)[0][0], "", b"")
            for each in sent
        ]
    )
    wait_until(
        lambda: all(receiver.named("request", trace) for trace in traces), "the spans do not come"
    )
    [last, other] = [receiver.named("request", trace)[-1] for trace in traces]
    passes = [span for span in receiver.named("forward") if {last.id, other.id} <= span.links]
    assert len(passes) == 1


def test_a_late_request_is_not_computed_beside_one_that_is(observed: Site) -> None:
    late = {"X-Request-Deadline": str(int(1000 * time.time()) - 1)}
    (status, answer), _ = predict(observed, "It works.", **late)
    assert (status, "had passed" in answer["error"]) == (504, True)
    (status, _), _ = predict(
        observed, "It works.", **{"X-Request-Deadline": str(int(1000 * time.time()) + 60_000)}
    )
    assert status == 200


#: Bounds for the test, in place of those of server/log4j2.xml.
SIZE, KEPT = 300, 2_000


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A TorchServe without a model, whose logs are small: its log folder, and a port."""
    ports = free_ports()
    logs, config = tmp_path / "logs", tmp_path / "log4j2.xml"
    logs.mkdir()
    bounds = {
        '"size">100 MB': f'"size">{SIZE} B',
        '"kept">100 MB': f'"kept">{KEPT} B',
    }
    # A day is a second.
    text = LOG_CONFIG.read_text().replace(".%d{yyyy-MM-dd}.", ".%d{yyyy-MM-dd-HH-mm-ss}.")
    for before, after in bounds.items():
        assert text.count(before) == 1
        text = text.replace(before, after)
    config.write_text(text)
    properties = tmp_path / "config.properties"
    listening = {
        "inference_address": ports.inference,
        "management_address": ports.management,
        "metrics_address": ports.metrics,
    }
    addresses = [f"{name}=http://127.0.0.1:{port}" for name, port in listening.items()]
    grpc_ports = [
        f"grpc_inference_port={ports.grpc_inference}",
        f"grpc_management_port={ports.grpc_management}",
    ]
    base = launching.BASE_PROPERTIES.read_text()
    properties.write_text("\n".join([base, *addresses, *grpc_ports, ""]))
    # A file that is older than all that are kept; one that is too large; one of another log.
    for name, size, days in (
        ("access_log.1", 1, 20),
        ("access_log.2", KEPT, 1),
        ("other.1", 1, 20),
    ):
        path = logs / f"{name}.log.gz"
        path.write_bytes(b"x" * size)
        os.utime(path, (time.time() - days * 86400,) * 2)
    command = [sys.executable, "-m", "ts.model_server", "--foreground", "--ncs"]
    command += ["--model-store", str(tmp_path), "--ts-config", str(properties)]
    environment = {
        **os.environ,
        "JAVA_HOME": str(java_home(sys.executable)),
        "TEMP": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "LOG_LOCATION": str(logs),
        "METRICS_LOCATION": str(logs),
    }
    with (tmp_path / "console").open("wb") as console:
        process = subprocess.Popen(
            [*command, "--log-config", str(config)],
            cwd=tmp_path,
            env=environment,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
    try:
        yield logs, ports.inference
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ping(port: int) -> bool:
    """Whether something answers, if only that a key is missing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 400
    except OSError:
        return False
    finally:
        connection.close()


def test_a_log_is_bounded_in_size_and_age(bare: tuple[Path, int]) -> None:
    logs, port = bare
    wait_until(lambda: ping(port), "TorchServe does not listen")
    seen: set[str] = set()

    def kept() -> list[Path]:
        for _ in range(10):
            ping(port)
        found = [*logs.glob("access_log.20*.gz")]
        seen.update(path.name for path in found)
        return found

    wait_until(lambda: len(kept()) > 0, "the file of another day is not put away")
    wait_until(lambda: not (logs / "access_log.1.log.gz").exists(), "an old file stays")
    wait_until(lambda: not (logs / "access_log.2.log.gz").exists(), "more is kept than may be")
    [line, *_] = gzip.decompress(kept()[0].read_bytes()).decode().splitlines()
    assert '"GET /ping" 400 ' in line
    wait_until(lambda: any(".2.log.gz" in path.name for path in kept()), "a file grows and grows")
    wait_until(lambda: len(kept()) < len(seen), "every file is kept")
    assert (logs / "access_log.log").stat().st_size <= SIZE + 200
    assert (logs / "other.1.log.gz").exists()

"""Random requests to real TorchServes, each beside a right one in the same batch."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.conftest import ModeSite
from tests.integration.helpers import close
from tests.serving.helpers import ask
from tests.tally import Tally
from tests.wrong import strategies
from tests.wrong.by_mode import SAMPLES
from tests.wrong.rows import Sample
from tests.wrong.torchserve import Own
from torchscript_bundle.server import Answer
from torchscript_bundle.serving.errors import REASONS

#: Without the search for what of a failure matters, which traces every line.
PHASES = (Phase.generate, Phase.shrink)
REQUESTS = 80
#: `type` of what TorchServe answers with a 500 by itself: forms that it cannot read.
UNREADABLE = ("ErrorDataDecoderException", "NotEnoughDataDecoderException")

#: Spaces at its ends are not part of a header's value.
header_values = st.one_of(
    st.just("*/*"),
    st.text('abz/;=,"é\xff q.1', max_size=40).map(str.strip),
    st.integers(1, 7000).map(lambda length: "a" * length),
)
fields = st.sampled_from(["data", "data", "body", "x", "é", "", "data\0"])
parts = st.tuples(fields, st.sampled_from(["", "text/plain", "application/json", "a/b; charset=é"]))


@st.composite
def multipart(draw: st.DrawFn, sample: Sample) -> bytes:
    """A form of a few parts, sometimes cut."""
    body = b""
    for name, content_type in draw(st.lists(parts, max_size=2)):
        head = f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n'
        typed = f"Content-Type: {content_type}\r\n" if content_type else ""
        body += (head + typed + "\r\n").encode() + draw(strategies.bodies(sample)) + b"\r\n"
    body += b"--x--\r\n"
    return body[: draw(st.integers(0, 200))] if draw(strategies.seldom) else body


def random_requests(sample: Sample) -> st.SearchStrategy[Own]:
    """Bodies of any kind under headers of any kind."""
    bodies = strategies.bodies(sample)
    urlencoded = st.builds(lambda key, body: key + body, st.sampled_from([b"data=", b""]), bodies)
    kinds: list[st.SearchStrategy[Any]] = [
        strategies.contents(sample).map(lambda content: content[::-1]),
        strategies.contents(sample).map(lambda content: content[::-1]),
        st.tuples(strategies.content_types, bodies),
        st.tuples(header_values, bodies),
        st.tuples(st.just("application/x-www-form-urlencoded"), urlencoded),
        st.tuples(st.just("multipart/form-data; boundary=x"), multipart(sample)),
        st.tuples(st.sampled_from(["multipart/form-data", "multipart/mixed; boundary="]), bodies),
    ]

    def request(kind: tuple[str, bytes], accept: str, odd: str) -> Own:
        named = {"Content-Type": kind[0], "Accept": accept, "X-Odd": odd}
        headers = tuple((name, value.encode("latin-1")) for name, value in named.items())
        return Own("", "", 0, "", headers=headers, body=kind[1])

    return st.builds(request, st.one_of(kinds), strategies.accepts | header_values, header_values)


#: `--slow` tries all; tests/serving/test_fuzz_modes.py tries what is each mode's own.
FAST = ("sequence_classification",)


@pytest.mark.parametrize(
    "sample",
    [
        pytest.param(sample, id=sample.mode, marks=() if sample.mode in FAST else pytest.mark.slow)
        for sample in SAMPLES
    ],
)
def test_no_request_harms_its_neighbour_or_the_worker(
    mode_site: ModeSite, sample: Sample, tally: Tally
) -> None:
    expected = ask(mode_site.service, sample.good)[1]
    counts: Counter[object] = Counter()

    @settings(
        max_examples=REQUESTS,
        deadline=None,
        derandomize=True,
        database=None,
        phases=PHASES,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(random_requests(sample))
    def send(request: Own) -> None:
        answer, neighbour = mode_site.beside(partial(mode_site.exchange, request), sample.good)
        assert neighbour.status == 200, neighbour
        assert close(neighbour.json(), expected)
        counts[kind_of(answer)] += 1

    send()
    tally("random requests to live servers", sample.mode, counts)
    assert counts.total() >= REQUESTS
    assert mode_site.describe_worker()["pid"] == mode_site.worker
    log = (mode_site.server.log_dir / "model_log.log").read_text(errors="replace")
    assert "Traceback" not in log
    assert "while answering a request" not in log


def kind_of(answer: Answer) -> str:
    """The status, and who it is of; what may not be fails."""
    if answer.content_type.startswith("text/plain"):
        assert answer.status == 200
        answer.body.decode("utf-8")
        return "200"
    assert answer.content_type == "application/json", answer
    value = json.loads(answer.body)
    if isinstance(value, dict) and value.keys() == {"code", "type", "message"}:
        assert answer.status in (400, 403) or value["type"] in UNREADABLE, value
        return f"{answer.status} of TorchServe"
    assert answer.status in REASONS
    assert answer.status < 500
    assert answer.status == 200 or list(value) == ["error"]
    return str(answer.status)

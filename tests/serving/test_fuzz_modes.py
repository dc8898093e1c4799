"""Random bodies of every mode: the decoder refuses in its own words, or understands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.serving.helpers import post, raw, read
from tests.tally import Tally
from tests.wrong import strategies
from tests.wrong.addresses import sentence
from tests.wrong.by_mode import SAMPLES
from tests.wrong.rows import Sample
from torchscript_bundle.serving.api.body import decode_body
from torchscript_bundle.serving.api.http import HttpRequest, HttpResponse
from torchscript_bundle.serving.api.protocols import find_protocol, first_keys
from torchscript_bundle.serving.api.protocols.call import Call
from torchscript_bundle.serving.errors import REASONS, RequestError
from torchscript_bundle.serving.service import Service

#: Without the search for what of a failure matters, which traces every line.
PHASES = (Phase.generate, Phase.shrink)
DECODED = 400
ANSWERED = 60

each_mode = pytest.mark.parametrize("sample", SAMPLES, ids=[sample.mode for sample in SAMPLES])
quiet = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=PHASES,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)


def decode(service: Service, request: HttpRequest) -> int:
    """The status that a request gets before any text is tokenized."""
    try:
        mode = service._own.mode
        payload = decode_body(request, first_keys(mode))
        call = find_protocol(payload, mode.offers).read(payload, mode, "under_test")
        assert isinstance(call, Call)
        for item in call.items:
            mode.decode(item, call.parameters)
    except RequestError as error:
        assert error.status in REASONS
        assert error.message.isprintable()
        error.message.encode("utf-8")
        return error.status
    return 200


@each_mode
def test_the_decoder_refuses_or_understands(
    service: Callable[[str], Service], sample: Sample, tally: Tally
) -> None:
    tiny = service(sample.checkpoint)
    counts: Counter[object] = Counter()

    @settings(quiet, max_examples=DECODED)
    @given(strategies.contents(sample))
    def try_one(content: tuple[bytes, str]) -> None:
        counts[decode(tiny, raw(*content))] += 1

    try_one()
    tally("random bodies through the decoder", sample.mode, counts)
    assert counts.total() >= DECODED
    assert counts[200] and counts[422] and counts[400]


@each_mode
def test_any_batch_is_answered(
    service: Callable[[str], Service], sample: Sample, tally: Tally
) -> None:
    tiny = service(sample.checkpoint)
    good = post(sample.good)
    [expected] = tiny.answer([good])
    assert expected.status == 200
    counts: Counter[object] = Counter()

    @settings(quiet, max_examples=ANSWERED)
    @given(st.lists(random_requests(sample), min_size=2, max_size=4))
    def try_batch(sent: list[HttpRequest]) -> None:
        *answers, neighbour = tiny.answer([*sent, good])
        assert neighbour.status == 200
        assert_close(read(neighbour), read(expected))
        for request, answer in zip(sent, answers, strict=True):
            counts[status(answer, request.path)] += 1

    try_batch()
    tally("random requests in batches", sample.mode, counts)
    assert counts[500] == 0


def random_requests(sample: Sample) -> st.SearchStrategy[HttpRequest]:
    """Requests, mostly in JSON, some to addresses of other APIs."""
    return st.builds(
        lambda content, accept, path: replace(raw(*content, accept), path=path),
        strategies.contents(sample),
        strategies.accepts,
        strategies.addresses,
    )


def status(answer: HttpResponse, path: str) -> int:
    """The status of an answer whose body is what its content type says."""
    assert answer.status in REASONS
    if answer.content_type == "application/json":
        value = read(answer)
        assert answer.status == 200 or sentence(value, path)
        # That API's status for an error of the server is also the one for another kind of model.
        assert answer.status != 424 or sentence(value, path).startswith("this model ")
    else:
        assert answer.status == 200
        answer.body.decode("utf-8")
    return answer.status


def assert_close(found: object, expected: object) -> None:
    """Equal, where floats may round otherwise in another batch."""
    if isinstance(expected, dict) and isinstance(found, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_close(found[key], value)
    elif isinstance(expected, list) and isinstance(found, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    else:
        close = pytest.approx(expected, abs=1e-4) if isinstance(expected, float) else expected
        assert found == close

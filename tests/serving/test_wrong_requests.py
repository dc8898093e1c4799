"""The rows of docs/errors.md, by each mode's service in this process, beside a right request.

Forms and explanations are left out, since TorchServe parses or routes them:
`tests/integration/test_wrong_requests.py` sends them, and some of each status, to real servers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tests.integration.helpers import close
from tests.serving.helpers import CPU, change, post, raw, read
from tests.wrong.addresses import sentence
from tests.wrong.by_mode import SAMPLES, own
from tests.wrong.core import MOST, core
from tests.wrong.rows import Sample, Sent, Wrong
from torchscript_bundle.serving.observing.caller import read_caller
from torchscript_bundle.serving.service import Service

#: Seconds that a call may take: a busy machine refuses nothing that would be answered.
PATIENCE = 3600
#: Bytes of a body that is sent to live servers alone, unless it is the smallest of its kind.
LARGE = 300_000


def by_handler(sent: Sent) -> bool:
    """Whether the service in this process reads a request as it would behind TorchServe."""
    return "form" not in (sent.content_type or "") and "expla" not in sent.path


ROWS = [
    pytest.param(sample, wrong, id=f"{sample.mode}: {wrong.what}")
    for sample in SAMPLES
    for wrong in [*core(sample), *own(sample)]
    if any(map(by_handler, wrong.sent))
]


@pytest.fixture(scope="module")
def limited(
    artifact: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Service]:
    """A name of `tests.conftest.CHECKPOINTS` -> its service, with the limits of docs/errors.md."""

    @cache
    def make(name: str) -> Service:
        folder = tmp_path_factory.mktemp("limited")
        limits = {"max_client_batch": MOST, "max_call_seconds": PATIENCE}
        return Service(change(artifact(name), folder, config=limits), CPU)

    return make


@pytest.mark.parametrize(("sample", "wrong"), ROWS)
def test_each_is_told_and_its_neighbour_is_answered(
    limited: Callable[[str], Service], sample: Sample, wrong: Wrong
) -> None:
    service, good = limited(sample.checkpoint), post(sample.good)
    expected = read(service.answer([good])[0])
    least = min(len(sent.body) for sent in wrong.sent)
    for sent in filter(by_handler, wrong.sent):
        if len(sent.body) > max(least, LARGE):
            continue
        headers = {name.lower(): value for name, value in sent.headers}
        request = replace(
            raw(sent.body, sent.content_type or ""),
            path=sent.address,
            caller=read_caller(headers, ""),
        )
        answer, neighbour = service.answer([request, good])
        assert answer.status == wrong.status, (sent, answer)
        assert wrong.says in sentence(read(answer), sent.address), sent
        assert neighbour.status == 200
        assert close(read(neighbour), expected)

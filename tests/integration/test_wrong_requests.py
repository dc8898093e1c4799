"""The rows of docs/errors.md, sent to real TorchServes, each beside a right request."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.integration.conftest import ModeSite
from tests.integration.helpers import READY_SECONDS, close, wait_until
from tests.serving.helpers import WRITING, ask
from tests.wrong import wire
from tests.wrong.addresses import sentence
from tests.wrong.by_mode import SAMPLES, TEXT, own
from tests.wrong.core import core
from tests.wrong.explained import EXPLAIN
from tests.wrong.page import PAGE, page
from tests.wrong.rows import JSON, PREDICT, Sample, Sent, Wrong
from tests.wrong.torchserve import FINE, OWN, QUEUE_FULL, WORKER_DIED, WORKER_KILLED, Own
from torchscript_bundle.serving.artifact import MOST_EXPLANATIONS
from torchscript_bundle.serving.modes import MODES


def cases() -> Iterator[Any]:
    """Each wrong request; `--slow` sends those that repeat what tests/serving has decided.

    Left are, of each mode, the first request of each status and one of each kind about
    explanations; and, of the first mode, all content types and addresses, which TorchServe reads.
    """
    for sample in SAMPLES:
        told: set[int] = set()
        for wrong in [*core(sample), *own(sample)]:
            for at, sent in enumerate(wrong.sent):
                own_way = sent.path != PREDICT or sent.content_type != JSON
                first = sample is SAMPLES[0] or (not at and sent.path == EXPLAIN)
                fast = (own_way and first) or wrong.status not in told
                told.add(wrong.status)
                yield pytest.param(
                    sample,
                    wrong,
                    sent,
                    id=f"{sample.mode}: {wrong.what} ({at})",
                    marks=() if fast else pytest.mark.slow,
                )


CASES = list(cases())
#: Of texts, keys and values that were sent.
WORDS = ("works", "MASK", "soup", "colour", "temperature", "1e400", "ud800", "top_k", "image/png")
QUEUE = 100
#: Until TorchServe has dealt with what was sent, on a busy machine as well.
SETTLED_SECONDS = 2.0

first_server = pytest.mark.parametrize("sample", SAMPLES[:1], ids=[SAMPLES[0].mode])


def test_every_mode_has_rows() -> None:
    """Those that write have tests of their own, in test_generation.py."""
    assert {sample.mode for sample in SAMPLES} == set(MODES) - WRITING


def test_the_page_says_what_is_sent() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it: python -m tests.wrong.page"


@pytest.mark.parametrize(("sample", "wrong", "sent"), CASES)
def test_each_is_told_and_its_neighbour_is_answered(
    mode_site: ModeSite, sample: Sample, wrong: Wrong, sent: Sent
) -> None:
    answer, neighbour = mode_site.beside(partial(mode_site.send, sent), sample.good)
    assert (answer.status, answer.content_type) == (wrong.status, "application/json"), answer
    assert wrong.says in sentence(answer.json(), sent.address)
    assert neighbour.status == 200, neighbour
    assert close(neighbour.json(), ask(mode_site.service, sample.good)[1])


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.mode for sample in SAMPLES])
def test_the_worker_lived_and_logged_nothing(mode_site: ModeSite) -> None:
    """After all of the above."""
    worker = mode_site.describe_worker()
    assert (worker["pid"], worker["status"]) == (mode_site.worker, "READY")
    assert mode_site.server.worker_pids == [mode_site.worker]
    log = (mode_site.server.log_dir / "model_log.log").read_text(errors="replace")
    assert "Traceback" not in log
    assert "while answering a request" not in log
    assert [word for word in WORDS if word in mode_site.logs()] == []
    # Some may have missed each other where the machine was busy; else they would be two a pair.
    assert mode_site.worker_calls() - mode_site.calls_before <= 1 + 1.8 * mode_site.sent


@first_server
@pytest.mark.parametrize("sent", [*OWN, *FINE], ids=lambda sent: sent.shown)
def test_what_never_reaches_the_handler(mode_site: ModeSite, sample: Sample, sent: Own) -> None:
    """And what does, although it looks wrong."""
    answer, neighbour = mode_site.beside(partial(mode_site.exchange, sent), sample.good)
    assert neighbour.status == 200
    assert answer.status == sent.status, answer
    assert sent.says in answer.body.decode()
    if sent.status >= 400:
        assert b'"error"' not in answer.body
        assert bool(answer.body) == bool(sent.says)


def post(site: ModeSite) -> socket.socket:
    """A right request under way."""
    key = f"Bearer {site.server.token('inference')}".encode()
    headers = [("Authorization", key), ("Content-Type", b"text/plain")]
    path = PREDICT.format(model=site.server.model)
    return wire.send(site.port("inference"), path, headers, TEXT.encode())


@first_server
def test_a_full_queue(mode_site: ModeSite) -> None:
    """The worker is frozen with a batch of two while the queue fills."""
    os.kill(mode_site.worker, signal.SIGSTOP)
    try:
        connections = [post(mode_site) for _ in range(QUEUE + MOST_EXPLANATIONS + 10)]
        refused, _, _ = select.select(connections, [], [], READY_SECONDS)
        assert refused, "none was refused"
        time.sleep(SETTLED_SECONDS)
    finally:
        os.kill(mode_site.worker, signal.SIGCONT)
    answers = [wire.receive(each) for each in connections]
    counts = Counter(answer.status for answer in answers)
    assert set(counts) == {200, QUEUE_FULL.status}
    assert counts[QUEUE_FULL.status] <= 10
    for answer in answers:
        assert answer.status == 200 or QUEUE_FULL.says in answer.body.decode()


@first_server
def test_a_dead_worker(mode_site: ModeSite) -> None:
    os.kill(mode_site.worker, signal.SIGSTOP)
    before = mode_site.batches_sent()
    connection = post(mode_site)
    wait_until(lambda: mode_site.batches_sent() > before, "the request stays where it is")
    time.sleep(SETTLED_SECONDS)
    os.kill(mode_site.worker, signal.SIGKILL)
    answer = wire.receive(connection)
    # Which of them depends on whether TorchServe sees the end of the process or of its connection.
    assert answer.status in (WORKER_KILLED.status, WORKER_DIED.status)
    assert WORKER_DIED.says in answer.body.decode()

    def came_back() -> bool:
        worker = mode_site.describe_worker()
        return worker["status"] == "READY" and worker["pid"] != mode_site.worker

    wait_until(came_back, "no worker came back")
    mode_site.worker = mode_site.describe_worker()["pid"]

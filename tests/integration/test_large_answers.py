"""TorchServe ends a worker whose answer is over max_response_size; none of ours ever is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tiny
from tests.integration.conftest import Site
from torchscript_bundle.server import Answer
from torchscript_bundle.serving.api.http import MAX_RESPONSE_SIZE

TEXT = "[MASK]"


@pytest.fixture(scope="module")
def site(
    build: Callable[..., Path],
    start_site: Callable[..., Site],
    tmp_path_factory: pytest.TempPathFactory,
) -> Site:
    """A fill-mask model that takes thousands of texts at once."""
    folder = tmp_path_factory.mktemp("large")
    checkpoint = tiny.save_checkpoint(
        folder / "checkpoint", tiny.bert_mlm, tiny.spelling_wordpiece_tokenizer()
    )
    archive = build(
        folder,
        checkpoint,
        mode="fill_mask",
        max_length=16,
        max_client_batch=5000,
        batch_size=64,
        max_call_seconds=60,  # what matters here is the size, even on a busy machine
    )
    return start_site(checkpoint, archive, sample=TEXT.encode())


def ask(site: Site, count: int) -> Answer:
    body = json.dumps({"inputs": [TEXT] * count, "top_k": 100}).encode()
    return site.server.predict(body, content_type="application/json")


def test_an_answer_over_the_bound_is_refused_and_one_below_is_given(site: Site) -> None:
    worker = site.server.worker_pids
    some, more = (len(ask(site, count).body) for count in (10, 20))
    each = (more - some) / 10
    # How many digits a score has depends on its rounding, hence on the batch.
    fits = MAX_RESPONSE_SIZE / each
    below = ask(site, int(0.98 * fits))
    assert below.status == 200
    assert 0.95 * MAX_RESPONSE_SIZE < len(below.body) <= MAX_RESPONSE_SIZE
    above = ask(site, int(1.02 * fits))
    assert above.status == 413
    assert "send fewer or shorter texts" in above.json()["error"]
    assert site.server.worker_pids == worker
    assert ask(site, 1).status == 200

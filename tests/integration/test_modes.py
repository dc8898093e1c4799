"""Every mode's archive in a real TorchServe answers as its service does in this process."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from tests.integration.conftest import ModeSite
from tests.integration.helpers import close
from tests.serving.helpers import ask
from tests.wrong.by_mode import SAMPLES
from tests.wrong.rows import Sent

TEXT = "We waited an hour for cold soup."
REQUESTS: dict[str, Any] = {
    "sequence_classification": {"inputs": [TEXT, "It works."], "parameters": {"top_k": None}},
    "token_classification": [TEXT, "It works as described."],
    "fill_mask": {"inputs": "It [MASK] as described.", "parameters": {"top_k": 3}},
    "question_answering": {"question": "How long?", "context": TEXT},
    "feature_extraction": [TEXT, "It works."],
    "reranking": {"query": "soup", "passages": [TEXT, "It works.", "a film"]},
    "zero_shot_classification": {
        "inputs": TEXT,
        "parameters": {"candidate_labels": ["food", "film"]},
    },
}


@pytest.mark.parametrize(
    ("sample", "request_"),
    [(sample, REQUESTS[sample.mode]) for sample in SAMPLES],
    ids=[sample.mode for sample in SAMPLES],
)
def test_a_server_answers_as_the_service_does(mode_site: ModeSite, request_: object) -> None:
    status, expected = ask(mode_site.service, request_)
    assert status == 200, expected
    body = Sent(json.dumps(request_).encode())
    answer, other = mode_site.beside(partial(mode_site.send, body), request_)
    assert (answer.status, other.status) == (200, 200), answer
    assert close(answer.json(), expected)
    assert close(other.json(), expected)

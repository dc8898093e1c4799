"""Every mode's archive in a real TorchServe answers as its service does in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from huggingface_hub import InferenceClient

from tests.integration.conftest import ModeSite
from tests.integration.helpers import close
from tests.serving.helpers import ask
from tests.wrong.by_mode import SAMPLES
from tests.wrong.rows import Sample, Sent

TEXT = "We waited an hour for cold soup."
REQUESTS: dict[str, Any] = {
    "sequence_classification": {"inputs": [TEXT, "It works."], "parameters": {"top_k": None}},
    "token_classification": [TEXT, "It works as described."],
    "fill_mask": {"inputs": "It [MASK] as described.", "parameters": {"top_k": 3}},
    "question_answering": {"question": "How long?", "context": TEXT},
    "feature_extraction": [TEXT, "It works."],
    "sparse_embedding": {"inputs": [TEXT, "It works."], "top_k": 20, "return_tokens": True},
    "reranking": {"query": "soup", "passages": [TEXT, "It works.", "a film"]},
    "zero_shot_classification": {
        "inputs": TEXT,
        "parameters": {"candidate_labels": ["food", "film"]},
    },
}
#: The call of InferenceClient that asks the same; reranking and sparse embedding have none.
CALLS: dict[str, Callable[[InferenceClient], Any]] = {
    "token_classification": lambda client: client.token_classification(TEXT),
    "fill_mask": lambda client: client.fill_mask("It [MASK] as described.", top_k=3),
    "question_answering": lambda client: client.question_answering(
        question="How long?", context=TEXT
    ),
    "feature_extraction": lambda client: client.feature_extraction([TEXT, "It works."]).tolist(),
    "zero_shot_classification": lambda client: client.zero_shot_classification(
        TEXT, ["food", "film"]
    ),
}


def expected_of(name: str, answer: Any) -> Any:
    """What InferenceClient makes of the native answer."""
    if name == "token_classification":
        return answer[0]
    if name == "zero_shot_classification":
        pairs = zip(answer["labels"], answer["scores"], strict=True)
        return [{"label": label, "score": score} for label, score in pairs]
    return answer


def plain(value: Any) -> Any:
    """The members that are set of what InferenceClient returns."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if each is not None}
    return value


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


@pytest.mark.parametrize(
    ("sample", "call"),
    [(sample, CALLS[sample.mode]) for sample in SAMPLES if sample.mode in CALLS],
    ids=[sample.mode for sample in SAMPLES if sample.mode in CALLS],
)
def test_inference_client_is_answered(
    mode_site: ModeSite, sample: Sample, call: Callable[[InferenceClient], Any]
) -> None:
    _, expected = ask(mode_site.service, REQUESTS[sample.mode])
    server = mode_site.server
    key = {"Authorization": f"Bearer {server.token('inference')}"}
    client = InferenceClient(model=server.address, headers=key)
    assert close(plain(call(client)), expected_of(sample.mode, expected))

"""Batches of requests -> responses: each gets its own status, whatever its neighbours get."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.serving.helpers import CPU, ask, change, post, raw, read
from torchscript_bundle.jit.deprecation import accept_deprecation
from torchscript_bundle.server import BASE_PROPERTIES
from torchscript_bundle.serving.api.http import MAX_RESPONSE_SIZE, TEXT, HttpRequest
from torchscript_bundle.serving.artifact import MODULE_FILE
from torchscript_bundle.serving.service import Service

Artifact = Callable[[str], Path]
Named = Callable[[str], Service]

GOOD = post("The film was long.")
LONG = post("secret " * 100)
BAD = [
    (raw(b"", "text/plain"), 400),
    (raw(b"secret", "application/json"), 400),
    (raw(b"secret", "image/png"), 415),
    (post({"secret": "a"}), 422),
    (post(["secret"] * 65), 413),
    (HttpRequest({"body": b"secret"}, {}, purpose="explain"), 404),
]


class Fails(torch.nn.Module):
    """Cannot take a row that holds token 1 (unknown)."""

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor]:
        if bool((input_ids == 1).any()):
            raise ValueError("secret: " + str(input_ids.sum().item()))
        return (torch.zeros(input_ids.size(0), 3),)


class NotANumber(torch.nn.Module):
    """Answers a row that holds token 1 (unknown) with NaN."""

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor]:
        unknown = (input_ids == 1).any(dim=1, keepdim=True)
        return (torch.where(unknown, float("nan"), torch.zeros(input_ids.size(0), 3)),)


def serve_instead(module: torch.nn.Module, artifact: Artifact, folder: Path) -> Service:
    """A service of the bert artifact with another module in it."""
    with accept_deprecation():
        scripted = torch.jit.script(module)
    return Service(change(artifact("bert"), folder, module=scripted), CPU)


def test_service_is_warm_before_its_first_request(
    artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    Service(artifact("bert"), CPU)
    assert "warm-up 1/1: batch 1, length 16" in caplog.messages


def test_no_requests_get_no_responses(service: Named) -> None:
    assert service("bert").answer([]) == []


def test_describe_says_what_is_served(service: Named) -> None:
    [response] = service("bert").answer([HttpRequest({}, {}, purpose="describe")])
    facts = read(response)
    assert response.status == 200
    assert facts["mode"] == "sequence_classification"
    assert facts["labels"] == ["SAD", "SO-SO", "GLAD"]
    assert (facts["max_length"], facts["precision"]) == (64, "float32")
    assert facts["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize("name", ["bert", "fixed_length", "fixed_shape"])
def test_bad_requests_leave_their_neighbours_alone(service: Named, name: str) -> None:
    batch = [GOOD, *(request for request, _ in BAD), LONG, post(["We waited.", "Not bad."]), GOOD]
    statuses = [200, *(status for _, status in BAD), 200, 200, 200]
    responses = service(name).answer(batch)
    assert [response.status for response in responses] == statuses
    for request, response in zip(batch, responses, strict=True):
        [alone] = service(name).answer([request])
        assert alone.status == response.status
        if response.status == 200:
            assert_same_answer(read(response), read(alone))
        else:
            assert alone.body == response.body
            assert list(read(response)) == ["error"]
            assert b"secret" not in response.body


def assert_same_answer(value: object, expected: object) -> None:
    if isinstance(value, list) and isinstance(expected, list):
        for entry, other in zip(value, expected, strict=True):
            assert_same_answer(entry, other)
    else:
        assert value == pytest.approx(expected, abs=1e-5)


def test_answers_keep_the_order_of_the_texts(service: Named) -> None:
    texts = [f"{'soup ' * number}film" for number in range(20, 0, -1)]
    status, answers = ask(service("bert"), texts)
    assert status == 200
    for text, answer in zip(texts, answers, strict=True):
        assert answer == pytest.approx(ask(service("bert"), text)[1], abs=1e-5)


@pytest.mark.parametrize(
    ("value", "lines"),
    [("We waited.", 1), (["We waited.", "Not bad."], 2), ({"text": "Not bad.", "top_k": 3}, 3)],
)
def test_plain_text_is_a_label_a_line(service: Named, value: object, lines: int) -> None:
    full, bare = service("bert").answer([post(value), post(value, accept="text/plain")])
    answer = read(full) if isinstance(read(full), list) else [read(full)]
    assert (bare.status, bare.content_type) == (200, TEXT)
    assert bare.body.decode().split("\n") == [entry["label"] for entry in answer]
    assert len(answer) == lines


def test_error_is_json_whatever_is_accepted(service: Named) -> None:
    [response] = service("bert").answer([post(None, accept="text/plain")])
    assert response.status == 422
    assert "null" in read(response)["error"]


def test_text_that_is_too_long_is_cut_and_marked(service: Named) -> None:
    cut, whole = ask(service("bert"), ["soup " * 100, "soup"])[1]
    assert cut["truncated"] is True
    assert "truncated" not in whole


def test_text_that_is_too_long_can_be_an_error(artifact: Artifact, tmp_path: Path) -> None:
    strict = Service(change(artifact("bert"), tmp_path, config={"on_too_long": "error"}), CPU)
    before, long, after = strict.answer([GOOD, post(["We waited.", "a " * 63]), GOOD])
    assert (before.status, long.status, after.status) == (200, 413, 200)
    told = "item 1 of the list: the text has 65 tokens; send at most 64 (special tokens included)"
    assert read(long)["error"] == told
    alone = ask(strict, "a " * 63)[1]
    assert alone["error"] == told.removeprefix("item 1 of the list: ")
    assert ask(strict, "a " * 62)[0] == 200


def test_more_texts_than_max_client_batch_are_refused(artifact: Artifact, tmp_path: Path) -> None:
    small = Service(change(artifact("bert"), tmp_path, config={"max_client_batch": 2}), CPU)
    assert ask(small, ["a", "b"])[0] == 200
    status, answer = ask(small, ["a", "b", "c"])
    assert (status, "at most 2" in answer["error"]) == (413, True)


def test_failing_forward_touches_only_its_own_request(
    artifact: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    broken = serve_instead(Fails(), artifact, tmp_path)
    batch = [GOOD, post("secret 你"), *(request for request, _ in BAD), LONG]
    responses = broken.answer(batch)
    assert [r.status for r in responses] == [200, 500, *(status for _, status in BAD), 200]
    assert read(responses[1]) == {"error": "the server could not answer this request"}
    assert [record.levelname for record in caplog.records].count("ERROR") == 2
    assert "runtime.py" in caplog.text
    assert "secret" not in caplog.text


def test_answer_that_is_not_a_number_fails_alone(
    artifact: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = serve_instead(NotANumber(), artifact, tmp_path)
    good, unknown = broken.answer([GOOD, post("secret 你")])
    assert (good.status, unknown.status) == (200, 500)
    assert read(good)["score"] == pytest.approx(1 / 3)
    assert "secret" not in caplog.text


def test_good_requests_leave_no_text_in_the_log(
    service: Named, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service("bert").answer([LONG, *(request for request, _ in BAD)])
    assert "secret" not in caplog.text


def test_module_beside_the_bundle_is_the_one_that_answers(
    artifact: Artifact, tmp_path: Path
) -> None:
    """The oracle of `change`: what it writes is what is served."""
    other = serve_instead(NotANumber(), artifact, tmp_path)
    assert (tmp_path / MODULE_FILE).read_bytes() != (artifact("bert") / MODULE_FILE).read_bytes()
    assert ask(other, "We waited.")[1] == {"label": "SAD", "score": pytest.approx(1 / 3)}


def test_text_too_short_for_a_model_that_must_not_be_padded_is_told(
    artifact: Artifact, tmp_path: Path
) -> None:
    facts = {"reads_padding": True, "min_length": 5}
    service = Service(change(artifact("convbert"), tmp_path / "short", bundle=facts), CPU)
    status, answer = ask(service, "a")
    assert status == 422
    assert "has 3 tokens" in answer["error"] and "at least 5" in answer["error"]
    assert ask(service, "The film was long.")[0] == 200


def test_an_answer_over_the_bound_is_refused_and_its_neighbour_is_not(
    service: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = post("We waited."), post(["We waited.", "Not bad."])
    size = len(service("bert").answer([one])[0].body)
    monkeypatch.setattr("torchscript_bundle.serving.api.guards.MAX_RESPONSE_SIZE", size)
    small, large = service("bert").answer([one, two])
    assert (small.status, large.status) == (200, 413)
    assert "send fewer or shorter texts" in read(large)["error"]


def test_the_bound_of_answers_is_that_of_the_shipped_settings() -> None:
    assert f"\nmax_response_size={MAX_RESPONSE_SIZE}\n" in BASE_PROPERTIES.read_text()

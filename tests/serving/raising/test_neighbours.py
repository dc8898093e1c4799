"""A request whose computation raises has its own answer, and takes no other's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving.generation.helpers import Written, answer_all
from tests.serving.generation.helpers import post as ask_to_write
from tests.serving.helpers import CPU, change, post, read
from tests.serving.raising.unknown import WORD, teach_word
from torchscript_bundle.serving.service import Service

FAILED = {"error": "the server could not answer this request"}
TEXTS = ["Bad soup", "It works as described", "The film was long"]


@pytest.mark.parametrize("packed", [True, False])
def test_neighbours_of_a_text_that_raises(
    packed: bool, artifact: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = teach_word(artifact("bert"), tmp_path)
    change(folder, folder, config={"packed_weights": packed})
    service = Service(folder, CPU)
    expected = [read(service.answer([post(text)])[0]) for text in TEXTS]
    caplog.set_level(logging.DEBUG)
    bad = f"cold {WORD} soup"
    first, failed, *others = service.answer([post(each) for each in (TEXTS[0], bad, *TEXTS[1:])])
    assert (failed.status, read(failed)) == (500, FAILED)
    for response, answer in zip((first, *others), expected, strict=True):
        assert response.status == 200
        assert read(response) == answer | {"score": pytest.approx(answer["score"], abs=1e-5)}
    assert "RuntimeError while answering a request" in caplog.text
    assert WORD not in caplog.text


def test_neighbours_of_a_prompt_that_raises(
    written: Callable[[str], Written], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = written("gpt2").service(teach_word(written("gpt2").folder, tmp_path / "artifact"))
    few = {"max_new_tokens": 6}
    requests = [ask_to_write({"inputs": text, "parameters": few}) for text in TEXTS]
    expected = [answer_all(service, request)[0] for request in requests]
    bad = ask_to_write({"inputs": f"cold {WORD} soup", "parameters": few})
    first, failed, *others = answer_all(service, requests[0], bad, *requests[1:])
    assert failed.status == 500
    assert [each.body for each in (first, *others)] == [each.body for each in expected]
    assert WORD not in caplog.text

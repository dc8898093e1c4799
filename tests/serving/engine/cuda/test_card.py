"""A real GPU, where there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.serving.helpers import CPU, ask, change
from torchscript_bundle.serving.engine.comparison import UnavailableError
from torchscript_bundle.serving.engine.cuda.card import Card
from torchscript_bundle.serving.service import Service

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")

GPU = torch.device("cuda", 0)
TEXTS = [
    "x",
    "It works.",
    "Bad soup",
    "We waited an hour for cold soup, and nobody said sorry. " * 4,
]


@pytest.fixture
def card() -> Card:
    return Card(GPU)


@torch.inference_mode()
def test_what_is_captured_is_repeated_on_new_numbers(card: Card) -> None:
    weights, given, result = (torch.rand(64, 64, device=GPU) for _ in range(3))

    def body() -> None:
        result.copy_(torch.softmax(given @ weights, dim=-1))

    replay = card.capture(body)
    for _ in range(3):
        numbers = torch.rand(64, 64)
        host = card.host(numbers.shape, numbers.dtype).copy_(numbers)
        assert host.is_pinned()
        given.copy_(host, non_blocking=True)
        replay()
        torch.testing.assert_close(result, torch.softmax(given @ weights, dim=-1))


@torch.inference_mode()
def test_what_waits_for_the_card_is_refused_and_nothing_is_harmed(card: Card) -> None:
    given, result = torch.rand(64, device=GPU), torch.zeros(64, device=GPU)
    stream = torch.cuda.current_stream()

    def waits() -> None:
        result.fill_(given.sum().item())

    with pytest.raises(UnavailableError, match="synchronizing"):
        card.capture(waits)
    assert card.alive()
    assert torch.cuda.current_stream() == stream
    assert torch.cuda.get_sync_debug_mode() == 0
    replay = card.capture(lambda: result.copy_(given) and None)
    replay()
    assert torch.equal(result, given)


def test_memory_is_measured(card: Card) -> None:
    peak = card.peak(lambda: torch.empty(2**20, dtype=torch.uint8, device=GPU))
    assert 2**20 <= peak < 2**22
    assert card.free() > 2**20


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "fixed_length"])
def test_answers_are_those_of_a_cpu_worker(
    artifact: Callable[[str], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    precision: str,
) -> None:
    caplog.set_level("INFO")
    folder = change(artifact(name), tmp_path, bundle={"precision": precision})
    inputs: dict[str, Any] = {"inputs": TEXTS, "top_k": None}
    on_card = Service(folder, GPU)
    assert on_card.running.precision == precision
    [told] = [each for each in caplog.messages if " graphs; a token of a pass" in each]
    assert int(told.split()[0]) > 0, caplog.text
    status, answers = ask(on_card, inputs)
    _, expected = ask(Service(artifact(name), CPU), inputs)
    assert status == 200
    near = 1e-4 if precision == "float32" else 0.1
    for found, wanted in zip(answers, expected, strict=True):
        scores = [{each["label"]: each["score"] for each in answer} for answer in (found, wanted)]
        assert scores[0] == pytest.approx(scores[1], abs=near)

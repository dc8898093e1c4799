"""Rows through a stand-in: each row's own answer, whatever fills its bucket or runs beside it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from tests.serving.engine.cuda.helpers import StandIn
from tests.serving.helpers import BUNDLE, CPU, STATIC, ask
from torchscript_bundle.jit import tracing
from torchscript_bundle.jit.deprecation import accept_deprecation
from torchscript_bundle.serving.artifact import MODULE_FILE, Bundle, Output, Padding
from torchscript_bundle.serving.engine import cuda, runtime
from torchscript_bundle.serving.engine.executors import ModuleExecutor
from torchscript_bundle.serving.engine.padding import Tokens
from torchscript_bundle.serving.engine.runtime import Runtime
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.service import Service
from torchscript_bundle.serving.text.tokenizer import Row

WORD = Row([2, 9, 3], [0, 0, 0], False, False)
OUTPUTS = (Output("ids", per_token=True), Output("count"), Output("kept", per_token=True))


class Echo(torch.nn.Module):
    """Gives each token's id back, how many there are, and ids of a row as a matrix of floats."""

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ids = input_ids * attention_mask
        return ids, attention_mask.sum(dim=1), torch.stack((ids, ids), dim=2).float()


class Short(Echo):
    """Gets no memory for more than so many tokens, as TorchScript says it."""

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if input_ids.numel() > 100:
            raise RuntimeError("The following operation failed ...\nCUDA out of memory. Tried to")
        return super().forward(input_ids, attention_mask, token_type_ids)


Make = Callable[..., tuple[Runtime, StandIn]]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A warmed up runtime of a module on a stand-in, and that."""

    def made(bundle: Bundle = BUNDLE, max_rows: int = 8, **card: Any) -> tuple[Runtime, StandIn]:
        stand_in = StandIn(**card)
        monkeypatch.setitem(cuda.CARDS, "cpu", lambda _: stand_in)
        monkeypatch.setattr(ModuleExecutor, "warm_up_calls", 1)
        with accept_deprecation():
            tracing.save(torch.jit.script(Echo()), tmp_path / MODULE_FILE)
        ready = Runtime(tmp_path, replace(bundle, outputs=OUTPUTS), CPU, max_rows)
        ready.prepare(WORD, pack_weights=False)
        return ready, stand_in

    return made


def make_rows(*lengths: int) -> list[Row]:
    pick = random.Random(0)
    return [
        Row([pick.randrange(5, 200) for _ in range(length)], [0] * length, False, False)
        for length in lengths
    ]


def check(runtime: Runtime, rows: list[Row]) -> None:
    for row, (ids, count, kept) in zip(rows, runtime.run(rows), strict=True):
        assert ids.tolist() == row.input_ids
        assert count.item() == len(row)
        assert kept.tolist() == [[float(each)] * 2 for each in row.input_ids]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("bundle", "graphs"),
    [
        (BUNDLE, True),
        (STATIC, True),
        (replace(BUNDLE, dynamic_batch=False), True),
        (replace(BUNDLE, reads_padding=True, min_length=1), False),
    ],
)
def test_each_row_gets_its_own_outputs(
    make: Make, bundle: Bundle, graphs: bool, side: Literal["left", "right"]
) -> None:
    padded = replace(bundle, padding=Padding(side=side, token_id=999, type_id=0))
    ready, card = make(padded)
    before = card.replays
    for lengths in [(5,), (9, 9, 9), (40, 3, 16, 17, 64, 5, 33, 4, 12, 50, 64), (), (64,) * 19]:
        check(ready, make_rows(*lengths))
    assert (card.replays > before) is graphs


def test_bucket_is_filled_and_counted(make: Make) -> None:
    ready, _ = make()
    assert ready.tokens == Tokens()
    check(ready, make_rows(20, 20, 20))
    assert ready.tokens == Tokens(computed=4 * 24, real=60)


def test_a_call_waits_for_the_card_once(make: Make) -> None:
    ready, card = make()
    before = card.waits
    check(ready, make_rows(*range(3, 60)))
    assert card.waits == before + 1


def test_shape_without_a_graph_runs_plainly(make: Make) -> None:
    ready, card = make(captures=3)
    before = card.replays
    check(ready, make_rows(60, 61, 62))
    assert card.replays == before
    check(ready, make_rows(3))
    assert card.replays > before


def test_card_that_captures_nothing_runs_all_plainly(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ready, card = make(captures=0)
    check(ready, make_rows(3, 60, 17))
    assert card.replays == 0
    assert "no graph of 1 x 16 tokens, nor any later: called a synchronizing" in caplog.text
    assert "0 graphs; a token of a pass needs" in caplog.text


def test_graphs_can_be_turned_off(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_GRAPHS", "0")
    ready, card = make()
    check(ready, make_rows(3, 60, 17))
    assert card.replays == 0


def test_batch_that_does_not_fit_is_halved(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_GRAPHS", "0")
    monkeypatch.setattr(runtime, "LENGTHS", (8,))  # so that what is run before cards fits
    monkeypatch.setitem(runtime.LOADERS, "torchscript", lambda *_: Short())
    ready, _ = make()
    check(ready, make_rows(*[30] * 20))
    assert "out of the card's memory with" in caplog.text
    caplog.clear()
    check(ready, make_rows(*[30] * 20))
    assert caplog.text == ""  # the limit holds for the next call


def test_worker_starts_though_graphs_find_no_memory(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("torchscript_bundle.serving.engine.cuda.card_executor.capture_graphs", fail)
    ready, card = make()
    check(ready, make_rows(3, 60, 17))
    assert card.replays == 0
    assert "no graphs: there is too little memory" in caplog.text


def test_few_bytes_make_small_passes(make: Make) -> None:
    """The stand-in's pass of 8 x 64 tokens takes 512 KB."""
    ready, card = make(memory=64 * 1024)
    card.hosts.clear()
    check(ready, make_rows(*[30] * 20))
    passes = [shape for shape, _ in card.hosts if len(shape) == 3]
    assert passes == [(3, 1, 32)] * 20  # 51 tokens fit, which are not two of these


def test_worker_ends_where_the_card_computes_no_more(make: Make) -> None:
    ready, card = make()
    card.lives = False
    card.wait = lambda: _raise()  # type: ignore[method-assign]
    with pytest.raises(SystemExit, match="the GPU failed"):
        ready.run(make_rows(4))


def test_error_of_a_living_card_is_the_request_s(make: Make) -> None:
    ready, card = make()
    card.wait = lambda: _raise()  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="device-side assert"):
        ready.run(make_rows(4))


def test_worker_is_not_served_from_a_card_that_a_capture_has_harmed(make: Make) -> None:
    with pytest.raises(ArtifactError, match="CUDA_GRAPHS=0"):
        make(captures=2, lives=False)


def _raise() -> None:
    raise RuntimeError("CUDA error: device-side assert triggered")


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("bert", ["It works.", "Bad soup", "The film was long and the ending was a surprise."]),
        ("bert_ner", ["It works.", "Bad soup"]),
        ("bert_sparse", ["It works.", "Bad soup"]),
        ("bert_mlm", ["It [MASK] as [MASK].", "[MASK] soup"]),
    ],
)
def test_answers_are_those_of_a_cpu_worker(
    artifact: Callable[[str], Path],
    service: Callable[[str], Service],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    inputs: list[str],
) -> None:
    status, expected = ask(service(name), {"inputs": inputs})
    card = StandIn()
    monkeypatch.setitem(cuda.CARDS, "cpu", lambda _: card)
    bundle = Bundle.load(artifact(name))
    assert bundle.dynamic_length
    on_card = Service(artifact(name), CPU)
    before = card.replays
    assert ask(on_card, {"inputs": inputs}) == (status, near(expected))
    assert (card.replays > before) is (name != "bert_mlm")


def near(value: Any) -> Any:
    """Scores as what is near enough to them."""
    if isinstance(value, float):
        return pytest.approx(value, abs=1e-5)
    if isinstance(value, list):
        return [near(each) for each in value]
    if isinstance(value, dict):
        return {key: near(each) for key, each in value.items()}
    return value

"""The module on its device: which device, every row's own answer, warm-up."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from tests.serving.helpers import BUNDLE, CPU, STATIC
from torchscript_bundle.jit import tracing
from torchscript_bundle.jit.deprecation import accept_deprecation
from torchscript_bundle.serving.artifact import MODULE_FILE, Bundle, Output, Padding
from torchscript_bundle.serving.engine.devices import choose_device
from torchscript_bundle.serving.engine.padding import Outputs, Tokens
from torchscript_bundle.serving.engine.runtime import Runtime, prices_matter, warm_up_shapes
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.text.tokenizer import Row

Artifact = Callable[[str], Path]
WORD = Row([2, 9, 3], [0, 0, 0], False, False)


@pytest.mark.parametrize("cuda_available", [False, True])
def test_worker_without_a_gpu_uses_the_cpu(cuda_available: bool) -> None:
    assert choose_device(None, cuda_available=cuda_available) == CPU


def test_worker_uses_the_gpu_it_was_assigned() -> None:
    assert choose_device(2, cuda_available=True) == torch.device("cuda", 2)


def test_assigned_gpu_that_torch_cannot_use_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"GPU 2 .* install a CUDA build .* number_of_gpu=0"):
        choose_device(2, cuda_available=False)


def make_rows(*lengths: int) -> list[Row]:
    pick = random.Random(0)
    return [
        Row(
            [2, *(pick.randrange(5, 200) for _ in range(length - 2)), 3], [0] * length, False, False
        )
        for length in lengths
    ]


@pytest.mark.parametrize("name", ["bert", "roberta", "fixed_length", "fixed_shape"])
def test_each_row_gets_its_own_answer_whatever_runs_beside_it(
    artifact: Artifact, name: str
) -> None:
    runtime = Runtime(artifact(name), Bundle.load(artifact(name)), CPU, max_rows=3)
    rows = make_rows(40, 3, 16, 17, 64, 5, 33, 4)
    alone = [runtime.run([row])[0] for row in rows]
    assert len({tuple(output.tolist()) for (output,) in alone}) == len(rows)
    for (output,), (expected,) in zip(runtime.run(rows), alone, strict=True):
        # A batch's matrix products round otherwise than a row's, and these weights amplify it.
        scale = float(expected.abs().max())
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-4 * scale)


class Echo(torch.nn.Module):
    """Gives each token's id back, how many there are, and each token's id twice over."""

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        twice = torch.stack((input_ids, input_ids), dim=2)
        return input_ids * attention_mask, attention_mask.sum(dim=1, keepdim=True), twice


def echo(folder: Path, bundle: Bundle, **options: Any) -> Runtime:
    """A runtime of `Echo` as the module of a bundle."""
    with accept_deprecation():
        tracing.save(torch.jit.script(Echo()), folder / MODULE_FILE)
    outputs = (Output("ids", per_token=True), Output("count"), Output("twice", per_token=True))
    return Runtime(folder, replace(bundle, outputs=outputs), CPU, **options)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("bundle", [BUNDLE, STATIC])
def test_outputs_for_each_token_are_those_of_real_tokens(
    tmp_path: Path, bundle: Bundle, side: Literal["left", "right"]
) -> None:
    padded = replace(bundle, padding=Padding(side=side, token_id=999, type_id=0))
    rows = make_rows(40, 3, 16, 8, 64, 9)
    outputs = echo(tmp_path, padded, max_rows=4).run(rows)
    assert [ids.tolist() for ids, _, _ in outputs] == [row.input_ids for row in rows]
    assert [count.tolist() for _, count, _ in outputs] == [[len(row)] for row in rows]
    twice = [[[index, index] for index in row.input_ids] for row in rows]
    assert [pairs.tolist() for _, _, pairs in outputs] == twice


def test_what_is_kept_of_a_row_is_the_narrowed_part(tmp_path: Path) -> None:
    def narrow(row: Row, outputs: Outputs) -> Outputs:
        assert len(outputs[0]) == len(row)
        return (outputs[0][:1].clone(),)

    rows = make_rows(9, 4)
    outputs = echo(tmp_path, BUNDLE, max_rows=4, narrow=narrow).run(rows)
    assert [ids.tolist() for (ids,) in outputs] == [row.input_ids[:1] for row in rows]


def test_no_rows_give_no_answers(artifact: Artifact) -> None:
    assert Runtime(artifact("bert"), Bundle.load(artifact("bert")), CPU, 8).run([]) == []


def test_loading_and_running_are_silent(artifact: Artifact) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runtime = Runtime(artifact("bert"), Bundle.load(artifact("bert")), CPU, max_rows=8)
        [(output,)] = runtime.run(make_rows(9))
    assert (output.dtype, output.shape, output.device) == (torch.float32, (3,), CPU)


@pytest.mark.parametrize("content", [b"", b"not a module"])
def test_file_that_is_no_module_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MODULE_FILE).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"traced_model\.pt cannot be loaded by torch 2\."):
        Runtime(tmp_path, BUNDLE, CPU, max_rows=8)


@pytest.mark.parametrize(
    ("bundle", "max_rows", "shapes", "matter"),
    [
        (replace(BUNDLE, max_length=512), 16, [(1, 16), (1, 128), (8, 16)], True),
        (BUNDLE, 4, [(1, 16), (1, 64), (4, 16)], True),
        (BUNDLE, 1, [(1, 16), (1, 64)], False),
        (replace(BUNDLE, dynamic_batch=False), 8, [(1, 16), (1, 64)], False),
        (replace(BUNDLE, reads_padding=True), 8, [(1, 16), (1, 64), (8, 16)], False),
        (replace(BUNDLE, min_length=64), 8, [(1, 64), (8, 64)], False),
        (STATIC, 2, [(1, 16), (1, 32), (1, 64), (2, 16)], False),
        (replace(STATIC, dynamic_batch=False), 8, [(1, 16), (1, 32), (1, 64)], False),
    ],
)
def test_shapes_that_are_warmed_up(
    bundle: Bundle, max_rows: int, shapes: list[tuple[int, int]], matter: bool
) -> None:
    assert warm_up_shapes(bundle, max_rows) == shapes
    assert prices_matter(bundle, max_rows) == matter


def test_warm_up_says_how_far_it_is(artifact: Artifact, caplog: pytest.LogCaptureFixture) -> None:
    folder = artifact("fixed_shape")
    caplog.set_level("INFO")
    Runtime(folder, Bundle.load(folder), CPU, 8).prepare(WORD, pack_weights=False)
    assert caplog.messages[:3] == [
        f"warm-up {number}/3: batch 1, length {length}"
        for number, length in enumerate((16, 32, 64), start=1)
    ]


def test_padding_is_counted_and_warm_up_is_not(tmp_path: Path) -> None:
    runtime = echo(tmp_path, BUNDLE, max_rows=4)
    runtime.prepare(WORD, pack_weights=False)
    assert runtime.tokens == Tokens()
    runtime.run(make_rows(5))
    assert runtime.tokens == Tokens(computed=8, real=5)  # 8 tokens is the shortest row
    runtime.run(make_rows(9, 9, 9))
    assert runtime.tokens == Tokens(computed=8 + 27, real=5 + 27)


def test_warm_up_measures_what_passes_cost(
    artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    Runtime(artifact("bert"), Bundle.load(artifact("bert")), CPU, 8).prepare(
        WORD, pack_weights=False
    )
    [told] = [each for each in caplog.messages if each.startswith("a pass costs")]
    assert 0 <= float(told.split()[6]) <= 4096

"""Packed weights in a model that writes: the same answers, and the dense weights are gone."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.cpu import needs_bfloat16
from tests.serving.generation.helpers import TOKENIZERS, Written, ask
from tests.serving.helpers import change
from torchscript_bundle.jit import tracing
from torchscript_bundle.serving.artifact import MODULE_FILE
from torchscript_bundle.serving.generation import packed_generator as packing
from torchscript_bundle.serving.generation.packed_generator import PackedGenerator, pack_generator

Get = Callable[[str], Written]
PROMPT = (5, 9, 11)


def load(written: Written) -> torch.jit.ScriptModule:
    module = tracing.load(written.folder / MODULE_FILE, torch.device("cpu"))
    module.eval()
    return module


def texts(generator: Any, lengths: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Ids and mask, int64 `[batch, length]`."""
    width = max(lengths)
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 60, (len(lengths), width), generator=random)
    places = torch.arange(width).expand(len(lengths), -1)
    sizes = torch.tensor(lengths).unsqueeze(1)
    mask = places >= width - sizes if generator.start_id < 0 else places < sizes
    return ids * mask, mask.long()


def logits_of(generator: Any) -> list[Tensor]:
    """What is said while rows join and leave."""
    logits, cache = generator.prefill(*texts(generator, (4, 7), 0), 3)
    found = [logits]
    for at in range(4):
        logits, cache = generator.step(torch.tensor([9 + at, 20 + at]), cache)
        found.append(logits)
    logits, theirs = generator.prefill(*texts(generator, (2, 5, 3), 1), 2)
    found.append(logits)
    cache = generator.merge(cache, theirs)
    for at in range(3):
        logits, cache = generator.step(torch.arange(5) * 7 + at, cache)
        found.append(logits)
    cache = generator.select_rows(cache, torch.tensor([0, 4]))
    logits, _ = generator.step(torch.tensor([11, 12]), cache)
    return [*found, logits]


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("float32", 1e-5), pytest.param("bfloat16", 2e-1, marks=needs_bfloat16)],
    ids=["float32", "bfloat16"],
)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_packed_generator_says_what_the_saved_one_says(
    name: str, precision: str, tolerance: float, written: Get
) -> None:
    with torch.inference_mode():
        expected = logits_of(load(written(name)))
        generator, reason = pack_generator(load(written(name)), PROMPT, precision)
        assert reason is None
        assert isinstance(generator, PackedGenerator)
        for one, other in zip(expected, logits_of(generator), strict=True):
            assert other.dtype == torch.float32
            assert float((one - other).abs().max() / one.abs().max()) <= tolerance


def test_every_linear_layer_is_packed(written: Get, caplog: pytest.LogCaptureFixture) -> None:
    model = written("gpt2").model
    with caplog.at_level(logging.INFO):
        pack_generator(load(written("gpt2")), PROMPT, "float32")
    layers = 2 * (4 * model.config.n_layer + 1)  # read and written with; the head is one
    assert f"{layers} linear layers packed" in caplog.text


def test_dense_weights_are_let_go(written: Get) -> None:
    generator, _ = pack_generator(load(written("gpt2")), PROMPT, "float32")
    assert sum(tensor.numel() for tensor in generator.state_dict().values()) == 0
    assert generator.vocabulary == written("gpt2").model.config.vocab_size


def test_text_that_is_too_long_is_refused(written: Get) -> None:
    generator, _ = pack_generator(load(written("gpt2")), PROMPT, "float32")
    ids = torch.ones(1, generator.max_length + 1, dtype=torch.int64)
    with pytest.raises(torch.jit.Error, match="where the model takes"):
        generator.prefill(ids, torch.ones_like(ids), 1)


def test_generator_that_differs_runs_as_it_was_saved(
    written: Get, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = packing.PackedGenerator.step

    def wrong(self: PackedGenerator, *given: Any) -> Any:
        logits, cache = plain(self, *given)
        return logits + 1, cache

    monkeypatch.setattr(PackedGenerator, "step", wrong)
    module = load(written("gpt2"))
    generator, reason = pack_generator(module, PROMPT, "float32")
    assert generator is module
    assert reason is not None and "logits differ by" in reason
    assert f"runs as it was saved: {reason}" in caplog.text


@pytest.mark.parametrize("packed", [True, False])
def test_config_says_whether_weights_are_packed(
    packed: bool, written: Get, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = written("gpt2")
    folder = change(made.folder, tmp_path / "artifact", config={"packed_weights": packed})
    with caplog.at_level(logging.INFO):
        service = made.service(folder)
    assert ("linear layers packed" in caplog.text) == packed
    _, text = made.greedy("so it goes", 8)
    status, answer = ask(service, {"inputs": "so it goes", "parameters": {"max_new_tokens": 8}})
    assert (status, answer) == (200, [{"generated_text": text}])


@needs_bfloat16
def test_bundle_says_the_precision_of_packed_weights(
    written: Get, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = written("gpt2")
    folder = change(made.folder, tmp_path / "artifact", bundle={"precision": "bfloat16"})
    with caplog.at_level(logging.INFO):
        service = made.service(folder)
    assert "packed in torch.bfloat16" in caplog.text
    status, answer = ask(service, {"inputs": "so it goes", "parameters": {"max_new_tokens": 8}})
    assert status == 200, json.dumps(answer)


@needs_bfloat16
def test_precision_that_differs_gives_way_to_packed_float32_and_says_why(
    written: Get, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(packing.TOLERANCES, torch.bfloat16, 0.0)
    made = written("gpt2")
    folder = change(made.folder, tmp_path / "artifact", bundle={"precision": "bfloat16"})
    with caplog.at_level(logging.INFO):
        running = made.service(folder).describe()["running"]
    assert running["precision"] == "float32"
    assert "differ" in running["reason"]
    assert f"runs in float32, slower: {running['reason']}" in caplog.text
    assert "packed in torch.float32" in caplog.text

"""Ties: kept by a trace and its file, undone by `untie`."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.jit.helpers import saved, trace
from torchscript_bundle.jit.arguments import keep_arguments
from torchscript_bundle.jit.tying import untie

IDS = torch.arange(14).reshape(2, 7) * 7 % tiny.VOCABULARY
SHARED: dict[str, tuple[tuple[str, ...], ...]] = {
    "masked": (
        ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
        ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    ),
    "causal": (("transformer.wte.weight", "lm_head.weight"),),
}
MAKERS: dict[str, Callable[[], Any]] = {"masked": tiny.bert_mlm, "causal": tiny.gpt2_lm}
each_model = pytest.mark.parametrize("name", MAKERS)


def make(name: str) -> tuple[Any, torch.nn.Module]:
    """A model whose output layer is its embedding, and the same for a trace."""
    torch.manual_seed(0)
    model = MAKERS[name]().eval()
    return model, keep_arguments(model, ["input_ids"], outputs=["logits"]).eval()


def tensors_in(file: Path) -> list[int]:
    """Sizes in bytes of the weights in a saved ScriptModule."""
    with zipfile.ZipFile(file) as archive:
        return [each.file_size for each in archive.infolist() if "/data/" in each.filename]


@each_model
def test_trace_and_its_file_keep_a_tie(tmp_path: Path, name: str) -> None:
    model, kept = make(name)
    loaded = saved(trace(kept, IDS[:1]), tmp_path)
    assert torch.equal(loaded(IDS)[0], kept(IDS)[0])
    state = loaded.state_dict()
    for names in SHARED[name]:
        assert len({state[f"module.{each}"].data_ptr() for each in names}) == 1
    assert len(list(loaded.parameters())) == len(list(model.parameters()))
    weights = tensors_in(tmp_path / "module.pt")
    embedding = model.get_input_embeddings().weight.nbytes
    assert weights.count(embedding) == 1
    pointers = {tensor.data_ptr() for tensor in state.values()}
    assert len(weights) == len(pointers)


@each_model
def test_untied_model_has_both_weights_in_the_file(tmp_path: Path, name: str) -> None:
    model, kept = make(name)
    trace_size = {}
    for folder in ("tied", "untied"):
        (tmp_path / folder).mkdir()
        loaded = saved(trace(kept, IDS[:1]), tmp_path / folder)
        trace_size[folder] = (tmp_path / folder / "module.pt").stat().st_size
        untie(model)
    embedding = model.get_input_embeddings().weight.nbytes
    assert tensors_in(tmp_path / "untied" / "module.pt").count(embedding) == 2
    assert trace_size["untied"] - trace_size["tied"] >= embedding
    first, second = (loaded.state_dict()[f"module.{each}"] for each in SHARED[name][0])
    assert first.data_ptr() != second.data_ptr()


@each_model
def test_untying_reports_the_names_once_and_leaves_the_outputs(name: str) -> None:
    model, kept = make(name)
    before = kept(IDS)[0]
    assert untie(model) == SHARED[name]
    assert untie(model) == ()
    assert torch.equal(kept(IDS)[0], before)
    first, second = (model.get_parameter(each) for each in SHARED[name][0])
    with torch.no_grad():
        second.zero_()
    assert second.requires_grad
    assert first.abs().sum() > 0


class Twice(torch.nn.Module):
    """One tensor under two names of one module, a parameter and a buffer each."""

    scale: torch.Tensor
    again: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3), requires_grad=False)
        self.bias = self.weight
        self.register_parameter("none", None)
        self.register_buffer("scale", torch.full((3,), 2.0))
        self.register_buffer("again", self.scale, persistent=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return (rows * self.weight + self.bias) * self.scale * self.again


def test_two_names_in_one_module_are_untied_which_torch_refuses_to_trace() -> None:
    module, rows = Twice(), torch.arange(3.0)
    with pytest.raises(ValueError, match="don't support parameter sharing"):
        trace(module, rows)
    before = module(rows)
    assert untie(module) == (("weight", "bias"), ("scale", "again"))
    assert not module.bias.requires_grad
    assert list(module.state_dict()) == ["weight", "bias", "scale"]
    assert torch.equal(module(rows), before)
    assert torch.equal(trace(module, rows)(rows + 1), module(rows + 1))


def test_more_than_two_names_are_one_group() -> None:
    layers = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(3)))
    layers[2].weight = layers[1].weight = layers[0].weight
    assert untie(layers) == (("0.weight", "1.weight", "2.weight"),)
    assert len({id(layer.weight) for layer in layers}) == 3


def test_shared_module_is_no_tie() -> None:
    layer = torch.nn.Linear(3, 3)
    repeated = torch.nn.Sequential(layer, torch.nn.ReLU(), layer)
    assert untie(repeated) == ()
    assert repeated[0] is repeated[2]
    assert repeated[0].weight is layer.weight

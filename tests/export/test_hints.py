"""Each hint is needed, makes its architecture's trace exact, and leaves the model as it was."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from architectures.heads import HEADS
from architectures.tiny_models import tiny_model
from tests.jit.helpers import saved
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.hints import HINTS, Hint, replacements, traceable
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.jit.tracing import Tensors, record_tracer_warnings
from torchscript_bundle.jit.verify import TOLERANCE, Case, Shape, compare

INPUTS = ("input_ids", "attention_mask")
#: Reads separators, which the rows here lack; `scripted/test_longformer.py` has some.
READS_SEPARATORS = {("longformer", "question_answering")}
#: model_type and head of every architecture that has a hint.
HINTED = [
    (kind, name)
    for kind in HINTS
    for name in HEADS
    if kind in HEADS[name].architectures and (kind, name) not in READS_SEPARATORS
]
#: Traced at the first. Among the others are fewer tokens than experts, and more than a chunk has.
SHAPES = [(2, 48), (1, 1), (1, 5), (1, 48), (3, 16), (5, 33), (2, 100)]
#: Fewest tokens that an architecture takes, if not one: Funnel has to pool them.
FEWEST = {"funnel": 5}
#: transformers divides weights of RWKV in its first forward; the copy has divided ones of its own.
DIVIDED = {"rwkv"}

#: One head of each is tried in every run, the others with --slow; so are those whose plain trace
#: takes seconds.
FIRST = dict(reversed([(k, h) for k, h in HINTED if k not in ("zamba", "qwen4_exp_text")]))

each_hinted = pytest.mark.parametrize(
    ("kind", "head"),
    [
        pytest.param(kind, head, marks=() if FIRST.get(kind) == head else pytest.mark.slow)
        for kind, head in HINTED
    ],
)


def random_inputs(batch: int, length: int, generator: torch.Generator) -> Tensors:
    """Ordinary tokens with padding on the left, a different amount in each row but the last."""
    ids = torch.randint(4, 300, (batch, length), generator=generator)
    gaps = torch.arange(batch).flip(0) * length // (2 * batch)
    mask = (torch.arange(length) >= gaps[:, None]).long()
    return ids * mask, mask


def inputs_at(shapes: list[tuple[int, int]], seed: int = 0) -> list[Tensors]:
    """One input a shape."""
    generator = torch.Generator().manual_seed(seed)
    return [random_inputs(batch, length, generator) for batch, length in shapes]


def wrapped(model: torch.nn.Module, head: str) -> torch.nn.Module:
    return wrap_model(model, INPUTS, HEADS[head].outputs).eval()


def traced(module: torch.nn.Module, example: Tensors) -> torch.jit.ScriptModule:
    with record_tracer_warnings():
        return trace(module, example, in_place=False)


def all_hold(module: torch.jit.ScriptModule, eager: torch.nn.Module, inputs: list[Tensors]) -> bool:
    """Whether a trace answers within the tolerance on each input."""
    with torch.no_grad():
        cases = [Case(Shape(*each[0].shape, True), each, eager(*each)) for each in inputs]
    return all(compare(module, case, TOLERANCE).holds for case in cases)


@contextmanager
def recorded_counts(model: torch.nn.Module) -> Iterator[list[tuple[int, ...]]]:
    """Collects how many tokens each expert gets, at each call of each gating of a JetMoE."""
    seen: list[tuple[int, ...]] = []
    hooks = [
        each.register_forward_hook(lambda _, inputs, output: seen.append(tuple(output[3])))
        for each in model.modules()
        if type(each).__name__ == "JetMoeTopKGating"
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def test_every_hint_gives_its_reason_and_is_tried_here() -> None:
    assert {kind for kind, _ in HINTED} == set(HINTS)
    assert all(len(hint.reason) > 20 for hint in HINTS.values())


@each_hinted
def test_a_hint_is_needed_and_enough(kind: str, head: str) -> None:
    model = tiny_model(kind, HEADS[head].auto_class)
    eager, adapted = wrapped(model, head), wrapped(traceable(model), head)
    inputs = inputs_at([shape for shape in SHAPES if shape[1] >= FEWEST.get(kind, 1)])
    assert not all_hold(traced(eager, inputs[0]), eager, inputs)
    assert all_hold(traced(adapted, inputs[0]), eager, inputs)


@each_hinted
def test_the_model_stays_as_it_was(kind: str, head: str) -> None:
    model = tiny_model(kind, HEADS[head].auto_class)
    (inputs,) = inputs_at([(2, 16)])
    eager = wrapped(model, head)
    with torch.no_grad():
        before = eager(*inputs)
    modules = [(name, type(each), each) for name, each in model.named_modules()]
    parameters = dict(model.named_parameters())
    config = copy.deepcopy(model.config)
    adapted = traceable(model)
    traced(wrapped(adapted, head), inputs)
    assert [(name, type(each), each) for name, each in model.named_modules()] == modules
    assert dict(model.named_parameters()) == parameters
    assert model.config == config
    with torch.no_grad():
        assert all(
            torch.equal(one, other) for one, other in zip(eager(*inputs), before, strict=True)
        )


@each_hinted
def test_the_copy_has_the_model_s_weights_and_mode(kind: str, head: str) -> None:
    model = tiny_model(kind, HEADS[head].auto_class)
    adapted = traceable(model)
    originals = set(model.parameters())
    assert kind in DIVIDED or set(adapted.parameters()) <= originals
    assert not any(each.training for each in adapted.modules())


def test_a_model_without_a_hint_is_not_copied() -> None:
    model = tiny_model("bert", "AutoModelForSequenceClassification")
    assert traceable(model) is model


def test_a_text_model_of_a_larger_one_has_its_own_hint() -> None:
    model = tiny_model("qwen4_exp", "AutoModelForCausalLM")
    assert traceable(model) is not model


def test_a_class_that_is_gone_is_named() -> None:
    adapt = replacements(Linear=lambda original: original, DbrxExperts=lambda original: original)
    with pytest.raises(LookupError, match=r"Sequential has no DbrxExperts"):
        adapt(torch.nn.Sequential(torch.nn.Linear(1, 1)))


@pytest.mark.parametrize("head", ["sequence_classification", "text_generation"])
def test_jetmoe_is_exact_whatever_the_routing(head: str, tmp_path: Path) -> None:
    """Fifty batches that spread over the experts differently, some leaving an expert out."""
    model: Any = tiny_model("jetmoe", HEADS[head].auto_class)
    generator = torch.Generator().manual_seed(1)
    sizes = torch.randint(1, 6, (48,), generator=generator).tolist()
    lengths = torch.randint(2, 49, (48,), generator=generator).tolist()
    inputs = inputs_at([(1, 1), (1, 3), *zip(sizes, lengths, strict=True)], seed=2)
    module = traced(wrapped(traceable(model), head), inputs_at([(2, 48)])[0])
    loaded = saved(module, tmp_path)
    eager = wrapped(model, head)
    with recorded_counts(model) as counts, torch.no_grad():
        cases = [Case(Shape(*each[0].shape, True), each, eager(*each)) for each in inputs]
    for case in cases:
        assert compare(module, case, TOLERANCE).holds
        assert compare(loaded, case, TOLERANCE).holds
    gatings = 2 * model.config.num_hidden_layers
    assert len(counts) == gatings * len(inputs)
    for first in range(gatings):
        assert len(set(counts[first::gatings])) >= 40
        assert any(0 in spread for spread in counts[first::gatings])


def test_a_hint_for_another_version_of_transformers_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model("bert", "AutoModelForMaskedLM")
    monkeypatch.setitem(HINTS, "bert", Hint("a trial", replacements(Gone=lambda m: m)))
    assert traceable(model) is model
    assert "BertForMaskedLM has no Gone" in caplog.text


def test_what_is_of_no_use_is_refused() -> None:
    with pytest.raises(ExportError, match="mra cannot be served: its attention is a CUDA kernel"):
        traceable(tiny_model("mra", "AutoModelForMaskedLM"))

"""Inputs to trace with: declared, made by the module, moved to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.jit.helpers import DictMask
from torchscript_bundle.jit.attention import KeyValueCache
from torchscript_bundle.jit.examples import MethodInputs, TensorSpec, to_module, tracing_inputs

ROWS = TensorSpec(("batch", "length", 3))
IDS = TensorSpec(("batch", "length"), torch.int64, high=7)
FLAGS = TensorSpec(("batch",), torch.bool)


class Declares(torch.nn.Module):
    input_specs = (ROWS, IDS, FLAGS)


class Makes(torch.nn.Module):
    """Its own method is asked before its declaration."""

    input_specs = (ROWS,)

    def __init__(self, made: Any = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.made = made

    def _make_tracing_inputs(self, count: int) -> Any:
        if self.made is not None:
            return self.made
        nested = {"rows": [torch.ones(2)], "ids": (torch.ones(2, dtype=torch.int32), None, 3)}
        return [{"forward": (torch.ones(2), nested)}] * count


def forward(inputs: MethodInputs) -> tuple[torch.Tensor, ...]:
    assert list(inputs) == ["forward"]
    return inputs["forward"]


def test_a_name_is_one_size_in_an_example_and_another_in_the_next() -> None:
    sizes = []
    for inputs in tracing_inputs(Declares(), 5, ""):
        rows, ids, flags = forward(inputs)
        batch, length = ids.shape
        assert (rows.shape, flags.shape) == ((batch, length, 3), (batch,))
        assert batch != length
        assert min(batch, length) > 1
        sizes.append((batch, length))
    assert len({batch for batch, _ in sizes}) == len({length for _, length in sizes}) == 5


def test_values_are_of_the_declared_dtype_and_below_high() -> None:
    rows, ids, flags = forward(tracing_inputs(Declares(), 40, "")[-1])
    assert (rows.dtype, ids.dtype, flags.dtype) == (torch.float32, torch.int64, torch.bool)
    assert (int(ids.min()), int(ids.max())) == (0, 6)
    assert len(flags.unique()) == 2
    assert 0.5 < float(rows.std()) < 2


def test_examples_are_the_same_each_time_and_draw_on_nobodys_generator() -> None:
    state = torch.random.get_rng_state()
    first, again = tracing_inputs(Declares(), 2, ""), tracing_inputs(Declares(), 3, "")
    assert torch.equal(torch.random.get_rng_state(), state)
    for one, other in zip(first, again, strict=False):
        assert all(map(torch.equal, forward(one), forward(other)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.complex64])
def test_open_dtype_is_the_modules(dtype: torch.dtype) -> None:
    module = Declares()
    module.register_buffer("count", torch.zeros(1, dtype=torch.int64))
    if dtype.is_floating_point:
        module.register_buffer("scale", torch.zeros(1, dtype=dtype))
    else:
        module.input_specs = (TensorSpec(("batch", 3), dtype),)
    [inputs] = tracing_inputs(module, 1, "")
    assert forward(inputs)[0].dtype == dtype


def test_declared_dtype_is_kept_where_the_module_has_another() -> None:
    module = torch.nn.Linear(3, 2).double()
    module.input_specs = (TensorSpec(("batch", 3), torch.float32),)  # type: ignore[assignment]
    [inputs] = tracing_inputs(module, 1, "")
    assert forward(inputs)[0].dtype == torch.float32


def test_inputs_are_on_the_modules_device() -> None:
    module = Declares()
    module.register_buffer("scale", torch.zeros(1, device="meta"))
    for tensor in forward(tracing_inputs(module, 1, "")[0]):
        assert tensor.device.type == "meta"
    moved = to_module(module, {"forward": (torch.ones(2, dtype=torch.int64),)})
    assert forward(moved)[0].device.type == "meta"


def test_what_a_module_makes_is_moved_however_deep_it_lies() -> None:
    examples = tracing_inputs(Makes(), 3, "")
    assert len(examples) == 3
    rows, nested = examples[0]["forward"]
    assert rows.dtype == nested["rows"][0].dtype == torch.float64
    ids, absent, number = nested["ids"]
    assert (ids.dtype, absent, number) == (torch.int32, None, 3)


def test_typed_inputs_are_moved_and_stay_typed() -> None:
    module = torch.nn.Linear(2, 2).double()
    given = (DictMask(torch.ones(2)), [KeyValueCache(*torch.ones(2, 1, 1, 3, 2))])
    mask, [cache] = to_module(module, {"forward": given})["forward"]
    assert isinstance(mask, DictMask)
    assert isinstance(cache, KeyValueCache)
    assert mask["mask"] is mask.mask
    assert mask.mask.dtype == cache["value"].dtype == cache.value.dtype == torch.float64


def test_module_without_tensors_takes_inputs_as_they_are() -> None:
    inputs = {"forward": (torch.ones(2, dtype=torch.float16),), "other": (1,)}
    moved = to_module(torch.nn.ReLU(), inputs)
    assert forward({"forward": moved["forward"]})[0].dtype == torch.float16
    assert moved["other"] == (1,)


def test_module_that_declares_nothing_is_named_with_what_to_do() -> None:
    says = r"encoder\.0 \(Linear\) has no inputs .* `input_specs`.* `_make_tracing_inputs\(n\)`"
    with pytest.raises(ValueError, match=says):
        tracing_inputs(torch.nn.Linear(3, 2), 1, "encoder.0 (Linear)")


@pytest.mark.parametrize(
    "made", [[], {"forward": ()}, [("forward", ())], [{"forward": [1]}], [{1: ()}], ({},)]
)
def test_what_a_module_makes_must_have_the_form(made: Any) -> None:
    with pytest.raises(TypeError, match=r"of encoder \(Makes\) must return a list"):
        tracing_inputs(Makes(made), 1, "encoder (Makes)")


@pytest.mark.parametrize(
    ("dtype", "high"),
    [(torch.int64, None), (torch.uint8, None), (None, 3), (torch.float32, 3), (torch.bool, 2)],
)
def test_high_is_for_integers_which_need_it(dtype: torch.dtype | None, high: int | None) -> None:
    with pytest.raises(ValueError, match="high is for integers"):
        TensorSpec(("batch",), dtype, high)

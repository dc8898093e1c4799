"""Named arguments only, by position, in the order that was asked for."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.jit.helpers import saved, trace
from torchscript_bundle.jit.arguments import keep_arguments


class Answer(NamedTuple):
    total: Tensor
    difference: Tensor
    nothing: None = None


class Many(torch.nn.Module):
    """What lies between the first and the last argument may be None, and mostly is."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(
        self,
        first: Tensor,
        between: Tensor | None = None,
        last: Tensor | None = None,
        *,
        double: bool = False,
    ) -> Answer:
        rest = sum(each for each in (between, last) if each is not None)
        scale = self.scale * (2 if double else 1)
        return Answer((first + rest) * scale, (first - rest) * scale)


class OpenEnded(torch.nn.Module):
    def forward(self, first: Tensor, **options: Any) -> Tensor:
        return first * options.get("factor", 1)


class Anything(torch.nn.Module):
    def forward(self, **inputs: Tensor) -> Tensor:
        return inputs["a"] - inputs["b"]


ONE, TWO = torch.tensor([1.0, 3.0]), torch.tensor([10.0, 20.0])


def parameters(module: torch.nn.Module) -> list[str]:
    return list(inspect.signature(module.forward).parameters)


def schema(module: torch.jit.ScriptModule) -> list[str]:
    return [argument.name for argument in module.forward.schema.arguments[1:]]


@pytest.mark.parametrize("names", [("first", "last"), ("last", "first"), ("between", "first")])
def test_names_and_order_are_kept_in_eager_and_in_the_trace(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    module = Many()
    kept = keep_arguments(module, names, outputs=["total", "difference"])
    traced = trace(kept, torch.ones(5), torch.ones(5))
    expected = module(**dict(zip(names, (ONE, TWO), strict=True)))[:2]
    for each in (kept, traced, saved(traced, tmp_path)):
        assert all(map(torch.equal, each(ONE, TWO), expected))
        assert all(map(torch.equal, each(**dict(zip(names, (ONE, TWO), strict=True))), expected))
    assert parameters(kept) == schema(traced) == schema(saved(traced, tmp_path)) == list(names)
    graph = [value.debugName() for value in traced.graph.inputs()]
    assert graph[1:] == list(names)


def test_example_may_be_given_by_name() -> None:
    kept = keep_arguments(Many(), ("last", "first"), outputs=["difference"])
    example = {"first": torch.ones(2), "last": torch.ones(2)}
    traced = torch.jit.trace(kept, example_kwarg_inputs=example, check_trace=False)
    assert schema(traced) == ["last", "first"]
    assert torch.equal(traced(ONE, TWO)[0], kept(ONE, TWO)[0])


def test_fixed_arguments_are_passed_at_every_call() -> None:
    kept = keep_arguments(Many(), ["first"], fixed={"last": TWO, "double": True}, outputs=["total"])
    assert torch.equal(kept(ONE)[0], (ONE + TWO) * 4)
    assert torch.equal(trace(kept, torch.ones(2))(ONE)[0], (ONE + TWO) * 4)


def test_whole_output_is_returned_where_none_is_named() -> None:
    assert isinstance(keep_arguments(Many(), ["first"])(ONE), Answer)


@pytest.mark.parametrize("name", ["nothing", "sum"])
def test_missing_output_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"^Answer has no {name}$"):
        keep_arguments(Many(), ["first"], outputs=["total", name])(ONE)


@pytest.mark.parametrize(
    ("names", "fixed", "says"),
    [
        (["first", "lost"], {}, "Many does not take lost; "),
        (["first"], {"doubel": True}, "Many does not take doubel; "),
        (["last"], {}, "Many cannot do without first; "),
        (["first", "last", "first"], {}, "Many takes only once first; "),
        (["first"], {"first": 1}, "Many takes only once first; "),
    ],
)
def test_arguments_that_cannot_be_passed_are_refused_at_once(
    names: list[str], fixed: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError) as refusal:
        keep_arguments(Many(), names, fixed=fixed)
    assert str(refusal.value) == says + "its arguments are first, between, last, double"


def test_what_falls_into_kwargs_is_refused_unless_fixed_or_said_to_be_unlisted() -> None:
    with pytest.raises(ValueError, match="OpenEnded does not take factor"):
        keep_arguments(OpenEnded(), ["first", "factor"])
    assert torch.equal(keep_arguments(OpenEnded(), ["first"], fixed={"factor": 3})(ONE), ONE * 3)
    kept = keep_arguments(OpenEnded(), ["first", "factor"], unlisted=["factor"])
    assert torch.equal(kept(ONE, TWO), ONE * TWO)


def test_unlisted_name_is_refused_where_there_are_no_kwargs() -> None:
    with pytest.raises(ValueError, match="Many does not take lost"):
        keep_arguments(Many(), ["first", "lost"], unlisted=["lost"])


def test_forward_that_names_nothing_is_not_checked() -> None:
    assert torch.equal(keep_arguments(Anything(), ["b", "a"])(ONE, TWO), TWO - ONE)


def test_calls_with_other_arguments_fail_as_pythons_do() -> None:
    kept = keep_arguments(Many(), ["first", "last"])
    with pytest.raises(TypeError, match="missing a required argument: 'last'"):
        kept(ONE)
    with pytest.raises(TypeError, match="too many positional arguments"):
        kept(ONE, TWO, TWO)
    with pytest.raises(TypeError, match="unexpected keyword argument 'double'"):
        kept(ONE, TWO, double=True)


def test_copy_has_weights_of_its_own_and_can_be_wrapped_again() -> None:
    kept = keep_arguments(Many(), ["first", "last"], outputs=["total"])
    twin = copy.deepcopy(kept)
    with torch.no_grad():
        twin.module.scale.zero_()
    assert torch.equal(kept(ONE, TWO)[0], (ONE + TWO) * 2)
    assert torch.equal(twin(ONE, TWO)[0], torch.zeros(2))
    again = keep_arguments(twin, ["last"], fixed={"first": ONE})
    assert parameters(twin) == ["first", "last"]
    assert parameters(again) == schema(trace(again, ONE)) == ["last"]


def test_mode_and_weights_are_the_modules() -> None:
    module = Many()
    kept = keep_arguments(module, ["first"]).eval()
    assert not module.training
    assert [name for name, _ in kept.named_parameters()] == ["module.scale"]
    assert kept.module is module

"""Types that survive outside the trace and are erased at its border."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.jit.helpers import saved, trace
from torchscript_bundle.jit.types import DataclassAsDict, DataclassAsTuple


@dataclass
class Pair(DataclassAsDict):
    left: Tensor
    right: Tensor


@dataclass
class Leaf(DataclassAsTuple):
    value: Tensor
    extra: Tensor | None = None


@dataclass
class Tree(DataclassAsTuple):
    first: Leaf
    none: Tensor | None = None
    leaves: list[Leaf] | None = None
    pairs: tuple[Pair, ...] | None = None
    last: Tensor | None = None


A, B, C = (torch.full((2,), float(value)) for value in (1, 2, 3))


def test_fields_and_keys_stay_one() -> None:
    pair = Pair(A, right=B)
    assert list(pair) == ["left", "right"]
    pair.left = C
    assert pair["left"] is C
    pair["right"] = A
    assert pair.right is A
    pair.update({"left": A}, right=B)
    pair |= {"right": C}
    assert pair.setdefault("left", B) is A
    assert (pair.left, pair.right) == (pair["left"], pair["right"]) == (A, C)
    assert isinstance(pair, dict)
    assert isinstance(pair, Pair)


@pytest.mark.parametrize(
    "change",
    [
        lambda pair: setattr(pair, "middle", A),
        lambda pair: pair.__setitem__("middle", A),
        lambda pair: pair.update(middle=A),
        lambda pair: pair.__ior__({"middle": A}),
        lambda pair: pair.setdefault("middle", A),
    ],
)
def test_foreign_keys_are_refused(change: Callable[[Pair], Any]) -> None:
    pair = Pair(A, B)
    with pytest.raises((KeyError, AttributeError), match="middle"):
        change(pair)
    assert list(pair) == ["left", "right"]
    assert not hasattr(pair, "middle")


@pytest.mark.parametrize(
    "change",
    [
        lambda pair: delattr(pair, "left"),
        lambda pair: pair.__delitem__("left"),
        lambda pair: pair.pop("left"),
        lambda pair: pair.pop("left", None),
        lambda pair: pair.popitem(),
        lambda pair: pair.clear(),
    ],
)
def test_removal_is_refused(change: Callable[[Pair], Any]) -> None:
    pair = Pair(A, B)
    with pytest.raises(TypeError, match="Pair keeps all its fields"):
        change(pair)
    assert list(pair.values()) == [pair.left, pair.right]


@pytest.mark.parametrize(("value", "kind"), [(None, "NoneType"), ([1.0], "list"), (1, "int")])
def test_members_are_tensors_only(value: Any, kind: str) -> None:
    says = rf"Pair\.right must be a Tensor, not {kind}"
    with pytest.raises(TypeError, match=says):
        Pair(A, value)
    pair = Pair(A, B)
    with pytest.raises(TypeError, match=says):
        pair.right = value
    with pytest.raises(TypeError, match=says):
        pair["right"] = value
    assert pair.right is B


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy])
def test_copies_are_of_the_class_and_whole(twin: Callable[[Pair], Pair]) -> None:
    other = twin(Pair(A, B))
    assert isinstance(other, Pair)
    assert other["left"] is other.left
    assert torch.equal(other.right, B)


def test_rewrap_gives_the_class_back() -> None:
    pair = Pair(A, B)
    assert Pair.jit_rewrap(pair) is pair
    assert Pair.jit_rewrap(None) is None
    again = Pair.jit_rewrap({"right": B, "left": A})
    assert isinstance(again, Pair)
    assert list(again) == ["left", "right"]
    assert (again.left, again.right) == (A, B)


@pytest.mark.parametrize("keys", [("left",), ("left", "right", "middle")])
def test_rewrap_refuses_other_keys(keys: tuple[str, ...]) -> None:
    with pytest.raises(TypeError, match=r"right|middle"):
        Pair.jit_rewrap(dict.fromkeys(keys, A))


def test_tuple_has_the_members_in_order_without_none() -> None:
    assert Leaf(A).astuple() == (A,)
    assert Leaf(A, B).astuple() == (A, B)
    tree = Tree(Leaf(A), leaves=[Leaf(A, B), Leaf(C)], pairs=(Pair(B, C),), last=C)
    assert tree.astuple() == ((A,), ((A, B), (C,)), ((B, C),), C)
    assert Tree(Leaf(A), last=B).astuple() == ((A,), B)


def test_member_that_no_trace_returns_is_named() -> None:
    tree = Tree(Leaf(A), leaves=[Leaf(A), Leaf(3)])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^Tree\.leaves\[1\]\.value is of type int: only tensors"):
        tree.astuple()


class Grows(torch.nn.Module):
    """Dictionaries in, alone and in a list; nested dataclasses out."""

    def forward(self, pair: Mapping[str, Tensor], pairs: list[Mapping[str, Tensor]]) -> Tree:
        whole = Pair.jit_rewrap(pair)
        others = tuple(Pair.jit_rewrap(each) for each in pairs)
        leaves = [Leaf(each.left - each.right) for each in others]
        return Tree(Leaf(whole.left, whole.right * 2), leaves=leaves, pairs=others).jit_unwrap()


def test_types_are_dictionaries_and_tuples_in_the_trace_and_themselves_outside(
    tmp_path: Path,
) -> None:
    module = Grows()
    traced = saved(trace(module, Pair(A, B), [Pair(A, C), Pair(B, C)]), tmp_path)
    pair, pairs = Pair(C, A), [Pair(A, B), Pair(C, B)]
    eager = module(pair, pairs)
    assert isinstance(eager, Tree)
    assert isinstance(eager.first, Leaf)
    for arguments in ((pair, pairs), (dict(pair), [dict(each) for each in pairs])):
        (left, right), leaves, others = traced(*arguments)
        assert torch.equal(left, C)
        assert torch.equal(right, A * 2)
        assert [leaf.tolist() for (leaf,) in leaves] == [(A - B).tolist(), (C - B).tolist()]
        assert torch.equal(others[1][0], C)
    assert str(traced.forward.schema.arguments[1].type) == "Dict[str, Tensor]"

"""Types that survive outside the trace and are erased at its border."""

from __future__ import annotations

import copy
import dataclasses
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


@pytest.mark.parametrize(
    "change",
    [
        lambda pair: pair.__setitem__(83, A),
        lambda pair: pair.update({83: A}),
        lambda pair: pair.__ior__({83: A}),
        lambda pair: pair.setdefault(83, A),
        lambda pair: type(pair).jit_rewrap({"left": A, 83: B}),
    ],
)
def test_keys_are_strings_only(change: Callable[[Pair], Any]) -> None:
    pair = Pair(A, B)
    with pytest.raises(TypeError, match=r"^a key of Pair must be a str, not int$"):
        change(pair)
    assert list(pair) == ["left", "right"]


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


def test_rewrap_takes_the_tuple_that_leaves_a_trace() -> None:
    pair = Pair.jit_rewrap((A, B))
    assert isinstance(pair, Pair)
    assert (pair.left, pair.right) == (A, B)


@pytest.mark.parametrize("outer", [list, tuple])
def test_rewrap_of_several_is_a_list(outer: Callable[[list[Any]], Any]) -> None:
    there = Pair(C, C)
    pairs = Pair.jit_rewrap(outer([(A, B), {"left": B, "right": C}, there]))
    assert isinstance(pairs, list)
    assert all(isinstance(each, Pair) for each in pairs)
    assert [each.left for each in pairs] == [A, B, C]
    assert pairs[2] is there
    assert Pair.jit_rewrap(outer([])) == []


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ((A,), r"Pair is made of 2 tensors \(left, right\), not of 1"),
        ((A, B, C), r"Pair is made of 2 tensors \(left, right\), not of 3"),
        ((A, 3), r"Pair\.right must be a Tensor, not int"),
        ([A, B], "not of Tensor"),
        (3, "Pair is made of a dictionary or tuple of tensors, or a list of such, not of int"),
        ([(A, B), "AB"], "not of str"),
    ],
)
def test_rewrap_says_what_it_takes(value: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        Pair.jit_rewrap(value)


class Appends(torch.nn.Module):
    """Returns the pairs that it was given, each grown by one, as a decoder does with its cache."""

    def forward(self, pairs: Any) -> Any:
        whole = Pair.jit_rewrap(list(pairs))
        grown = [Pair(*(torch.cat([t, t[:1]]) for t in (each.left, each.right))) for each in whole]
        return Tree(Leaf(A), pairs=tuple(grown)).jit_unwrap()


@pytest.mark.parametrize("form", [Pair, lambda left, right: (left, right)])
def test_what_left_a_trace_can_be_fed_back(form: Callable[..., Any], tmp_path: Path) -> None:
    module = Appends()
    traced = saved(trace(module, [form(A, B), form(B, C)]), tmp_path)
    _, pairs = traced([form(B, A), form(C, A)])
    fed = [form(each.left, each.right) for each in Pair.jit_rewrap(pairs)]
    _, again = traced(fed)
    expected = module(module([Pair(B, A), Pair(C, A)]).pairs).astuple()[1]
    torch.testing.assert_close(again, expected)
    assert len(again[0][0]) == 4


def test_tuple_has_the_members_in_order_without_none() -> None:
    assert Leaf(A).astuple() == (A,)
    assert Leaf(A, B).astuple() == (A, B)
    tree = Tree(Leaf(A), leaves=[Leaf(A, B), Leaf(C)], pairs=(Pair(B, C),), last=C)
    assert tree.astuple() == ((A,), ((A, B), (C,)), ((B, C),), C)
    assert Tree(Leaf(A), last=B).astuple() == ((A,), B)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Leaf(3), r"^Leaf\.value is of type int: only tensors"),  # type: ignore[arg-type]
        (lambda: Tree(Leaf(A), leaves=[Leaf(A), "x"]), r"^Tree\.leaves\[1\] is of type str"),  # type: ignore[list-item]
        (lambda: Leaf(A, [B, [C, 1.0]]), r"^Leaf\.extra\[1\]\[1\] is of type float"),  # type: ignore[arg-type]
    ],
)
def test_member_that_no_trace_returns_is_refused_at_once(
    make: Callable[[], Any], says: str
) -> None:
    with pytest.raises(TypeError, match=says):
        make()


def test_list_that_was_changed_is_named_when_it_leaves() -> None:
    leaves: list[Any] = [Leaf(A)]
    tree = Tree(Leaf(A), leaves=leaves)
    leaves.append(3)
    with pytest.raises(TypeError, match=r"^Tree\.leaves\[1\] is of type int"):
        tree.astuple()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda leaf: setattr(leaf, "value", B), "Leaf cannot be changed: .* setting value"),
        (lambda leaf: setattr(leaf, "extra", B), "Leaf cannot be changed: .* setting extra"),
        (lambda leaf: setattr(leaf, "other", B), "Leaf cannot be changed: .* setting other"),
        (lambda leaf: delattr(leaf, "value"), "Leaf cannot be changed: value cannot be deleted"),
    ],
)
def test_tuple_cannot_be_changed(change: Callable[[Leaf], Any], says: str) -> None:
    leaf = Leaf(A)
    with pytest.raises(TypeError, match=says):
        change(leaf)
    assert vars(leaf) == {"value": A, "extra": None}


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, dataclasses.replace])
def test_another_one_can_be_made(twin: Callable[[Leaf], Leaf]) -> None:
    other = twin(Leaf(A, B))
    assert isinstance(other, Leaf)
    assert torch.equal(torch.stack(other.astuple()), torch.stack((A, B)))


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

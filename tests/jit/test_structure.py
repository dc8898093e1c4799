"""Structures are copied and mapped whole, whatever their classes."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.jit.helpers import DictMask, TupleCache
from torchscript_bundle.jit.attention import KeyValueCache
from torchscript_bundle.jit.structure import copy_tensors, map_leaves


class Named(NamedTuple):
    first: Tensor
    second: Any


@dataclass(frozen=True)
class Frozen:
    tensor: Tensor
    name: str = "frozen"


@dataclass(slots=True)
class Slots:
    tensor: Tensor


class Rows(list[Tensor]):
    label: str = "class"


def tensors() -> Tensor:
    return torch.tensor([1.0, 2.0])


CASES: dict[str, tuple[Callable[[], Any], Callable[[Any], Tensor]]] = {
    "tensor": (tensors, lambda made: made),
    "list": (lambda: [tensors(), 1, None], lambda made: made[0]),
    "tuple": (lambda: (1, (tensors(),)), lambda made: made[1][0]),
    "dict": (lambda: {"a": {"b": tensors()}}, lambda made: made["a"]["b"]),
    "ordered": (lambda: OrderedDict(a=tensors()), lambda made: made["a"]),
    "default": (lambda: defaultdict(list, a=tensors()), lambda made: made["a"]),
    "named": (lambda: Named(tensors(), "x"), lambda made: made.first),
    "frozen": (lambda: Frozen(tensors()), lambda made: made.tensor),
    "slots": (lambda: Slots(tensors()), lambda made: made.tensor),
    "dictionary and dataclass": (lambda: DictMask(tensors()), lambda made: made.mask),
    "tuple and dataclass": (lambda: TupleCache(tensors(), tensors()), lambda made: made.key),
    "any object": (lambda: SimpleNamespace(tensor=tensors()), lambda made: made.tensor),
    "of torch's own": (lambda: torch.max(torch.eye(2), 0), lambda made: made.values),
}


@pytest.mark.parametrize("case", CASES)
def test_copy_is_of_the_class_with_tensors_of_its_own(case: str) -> None:
    make, get = CASES[case]
    value = make()
    before = get(value).clone()
    made = copy_tensors(value)
    assert type(made) is type(value)
    assert torch.equal(get(made), before)
    get(made).zero_()
    assert torch.equal(get(value), before)


@pytest.mark.parametrize(
    "make", [lambda: DictMask(tensors()), lambda: TupleCache(*[tensors()] * 2)]
)
def test_those_of_them_that_are_two_things_cannot_be_deep_copied(make: Callable[[], Any]) -> None:
    with pytest.raises(TypeError):
        copy.deepcopy(make())


def test_items_and_fields_stay_one() -> None:
    mask, cache = copy_tensors((DictMask(tensors()), TupleCache(tensors(), tensors())))
    assert mask["mask"] is mask.mask
    assert cache[0] is cache.key
    assert cache[1] is cache.value is not cache.key
    ours = copy_tensors(KeyValueCache(*torch.zeros(2, 1, 1, 3, 2)))
    assert ours["key"] is ours.key


def test_attributes_beside_items_are_kept() -> None:
    rows = Rows([tensors()])
    rows.label = "own"
    made = copy_tensors(rows)
    assert (type(made), made.label, len(made)) == (Rows, "own", 1)
    kept = copy_tensors(defaultdict(list, a=tensors()))
    assert kept["b"] == []


def test_one_object_at_two_places_stays_one() -> None:
    tensor, layer = tensors(), [tensors()]
    first, second, one, two = copy_tensors((tensor, tensor, layer, layer))
    assert first is second is not tensor
    assert one is two is not layer


def test_list_that_holds_itself_is_copied() -> None:
    ring: list[Any] = [tensors()]
    ring.append(ring)
    made = copy_tensors(ring)
    assert made[1] is made is not ring


def test_tensors_that_share_memory_have_copies_that_share_it() -> None:
    whole = torch.arange(4.0)
    made, part = copy_tensors([whole, whole[2:]])
    made.zero_()
    assert part.tolist() == [0.0, 0.0]
    assert whole.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_computed_tensors_are_copied_without_their_history() -> None:
    leaf = tensors().requires_grad_()
    made, computed = copy_tensors((leaf, leaf * 2))
    assert made.requires_grad
    assert not computed.requires_grad
    assert computed.tolist() == [2.0, 4.0]


def test_each_leaf_is_changed_once() -> None:
    tensor = tensors()
    seen: list[Any] = []

    def change(leaf: Any) -> Any:
        seen.append(leaf)
        return len(seen)

    made = map_leaves({"a": [tensor, "x"], "b": (tensor, torch.Size([2]))}, change)
    assert made == {"a": [1, 2], "b": (1, 3)}
    assert seen == [tensor, "x", torch.Size([2])]

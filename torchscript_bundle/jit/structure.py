"""Nested inputs and outputs of modules: tensors in containers and dataclasses of any class."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch

Value = TypeVar("Value")

#: Set for classes that a `class` statement made. Source: `copyreg._HEAPTYPE`.
_MADE_IN_PYTHON = 1 << 9


def copy_tensors(value: Value) -> Value:
    """Return the same structure with a copy of each leaf, keeping aliases and shared memory.

    `copy.deepcopy` calls constructors, which fails for a dataclass that is a dictionary or tuple as
    well, as in curated-transformers.
    """
    memo: dict[int, Any] = {}

    def copy_leaf(leaf: Any) -> Any:
        # deepcopy refuses tensors with an autograd history.
        has_history = isinstance(leaf, torch.Tensor) and not leaf.is_leaf
        return copy.deepcopy(leaf.detach() if has_history else leaf, memo)

    return map_leaves(value, copy_leaf)


def map_leaves(value: Value, change: Callable[[Any], Any]) -> Value:
    """Return the same structure, of the same classes, with `change(leaf)` for each leaf.

    Leaves are all objects but lists, tuples, dictionaries and dataclasses, and their subclasses. No
    constructor runs, and one object at two places stays one object, which is changed once.
    """
    mapped: Value = _Mapping(change).of(value)
    return mapped


class _Mapping:
    """One call of `map_leaves`, with its results so far by the `id` of the original."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        self._change = change
        self._made: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        if id(value) not in self._made:
            self._made[id(value)] = self._make(value)
        return self._made[id(value)]

    def _make(self, value: Any) -> Any:
        kind: Any = type(value)
        base = _builtin_base(kind)
        if base is tuple:
            made = tuple.__new__(kind, [self.of(item) for item in value])
        elif base in (list, dict, OrderedDict) or (base is object and is_dataclass(value)):
            made = base.__new__(kind)
        else:
            return self._change(value)
        self._made[id(value)] = made  # before its members, which may hold it
        if base is list:
            list.extend(made, [self.of(item) for item in value])
        elif base in (dict, OrderedDict):
            for key, item in base.items(value):
                base.__setitem__(made, key, self.of(item))
        self._set_attributes(made, value)
        return made

    def _set_attributes(self, made: Any, value: Any) -> None:
        attributes: dict[str, Any] = getattr(value, "__dict__", {})
        for name, member in attributes.items():
            made.__dict__[name] = self.of(member)
        for field in fields(value) if is_dataclass(value) else ():
            if field.name not in attributes and hasattr(value, field.name):  # in a slot
                object.__setattr__(made, field.name, self.of(getattr(value, field.name)))


def _builtin_base(kind: type) -> Any:
    """Return the first base class of `kind` that is written in C."""
    return next(each for each in kind.__mro__ if not each.__flags__ & _MADE_IN_PYTHON)

"""Dataclasses of tensors that go into a trace as dictionaries and come out as tuples.

A trace knows tensors, and lists, tuples and dictionaries of them. After
`curated_transformers/util/dataclass.py` of https://github.com/explosion/curated-transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NoReturn, Self, cast, overload

from torch import Tensor
from torch.jit._trace import is_tracing


@dataclass(init=False, repr=False, eq=False)
class DataclassAsDict(dict[str, Tensor]):
    """Base of dataclasses that are dictionaries as well, so that a trace takes them as inputs.

    The fields are the keys: setting either sets the other, and neither can be added or removed.
    Inside the traced module a plain dictionary arrives, and `jit_rewrap` gives the class back.

    Example:
        >>> import torch
        >>> @dataclass
        ... class Box(DataclassAsDict):
        ...     corner: Tensor
        >>> box = Box(torch.zeros(2))
        >>> box["corner"] is box.corner
        True
    """

    @overload
    @classmethod
    def jit_rewrap(cls, value: None) -> None: ...

    @overload
    @classmethod
    def jit_rewrap(cls, value: Mapping[str, Tensor]) -> Self: ...

    @classmethod
    def jit_rewrap(cls, value: Mapping[str, Tensor] | None) -> Self | None:
        """What the traced module received, as this class; an instance or `None` stays as it is.

        Raises:
            TypeError: the keys are not the fields, or a value is no Tensor.
        """
        if value is None or isinstance(value, cls):
            return value
        return cls(**value)

    def __setattr__(self, name: str, value: Tensor) -> None:
        """Sets a field and its key.

        Raises:
            AttributeError: there is no such field.
            TypeError: the value is no Tensor.
        """
        kind = type(self).__name__
        names = [field.name for field in fields(self)]
        if name not in names:
            raise AttributeError(f"{kind} has no field {name}, only {', '.join(names)}")
        if not isinstance(value, Tensor):
            raise TypeError(f"{kind}.{name} must be a Tensor, not {type(value).__name__}")
        super().__setattr__(name, value)
        super().__setitem__(name, value)

    def __setitem__(self, key: str, value: Tensor) -> None:
        """Sets a key and its field.

        Raises:
            KeyError: there is no such field.
            TypeError: the value is no Tensor.
        """
        try:
            setattr(self, key, value)
        except AttributeError as error:
            raise KeyError(str(error)) from None

    # dict's own methods would not pass through __setitem__.

    def update(self, *args: Any, **kwargs: Tensor) -> None:
        """As dict's, for keys that are fields."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Tensor:
        """As dict's: every field has a value, so that no default is ever needed."""
        return self[key]

    def _refuse(self, *_: Any) -> NoReturn:
        """Stands for whatever would remove a field.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{type(self).__name__} keeps all its fields: none can be removed")

    __delitem__ = __delattr__ = pop = popitem = clear = _refuse


@dataclass
class DataclassAsTuple:
    """Base of dataclasses that leave a trace as tuples, and stay what they are when eager.

    Members: tensors, dataclasses of them (`DataclassAsDict` too), lists and tuples of either, and
    `None`.

    Example:
        >>> import torch
        >>> @dataclass
        ... class Output(DataclassAsTuple):
        ...     logits: Tensor
        ...     loss: Tensor | None = None
        >>> Output(torch.zeros(1)).astuple()
        (tensor([0.]),)
    """

    def astuple(self) -> tuple[Any, ...]:
        """The members in order, without those that are `None`, all the way down.

        Raises:
            TypeError: a member is of another type; the message names it.
        """
        return cast(tuple[Any, ...], _erase(self, type(self).__name__))

    def jit_unwrap(self) -> Self:
        """To return at the border of a traced module: the tuple while tracing, else the object.

        The type is the eager one, since a type checker never sees the trace.
        """
        return cast(Self, self.astuple()) if is_tracing() else self


def _erase(value: Any, name: str) -> Any:
    """`value` of a trace's own types; `name` is how an error calls it."""
    if isinstance(value, Tensor):
        return value
    if is_dataclass(value):
        members = ((field.name, getattr(value, field.name)) for field in fields(value))
        return tuple(_erase(each, f"{name}.{key}") for key, each in members if each is not None)
    if isinstance(value, list | tuple):
        return tuple(_erase(each, f"{name}[{index}]") for index, each in enumerate(value))
    raise TypeError(
        f"{name} is of type {type(value).__name__}: only tensors, and dataclasses, lists and "
        "tuples of them, leave a trace"
    )

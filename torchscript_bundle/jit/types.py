"""Dataclasses of tensors that enter a trace as dictionaries and leave it as tuples.

After curated_transformers/util/dataclass.py of github.com/explosion/curated-transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NoReturn, Self, cast, overload

from torch import Tensor
from torch.jit._trace import is_tracing


@dataclass(init=False, repr=False, eq=False)
class DataclassAsDict(dict[str, Tensor]):
    """Base of dataclasses that are dictionaries as well, so that a trace takes them as inputs.

    The fields are the keys, which cannot be added or removed. A traced module gets a plain
    dictionary, of which `jit_rewrap` makes the class again.

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
    def jit_rewrap(cls, value: Mapping[str, Tensor] | tuple[Tensor, ...]) -> Self: ...

    @overload
    @classmethod
    def jit_rewrap(
        cls, value: Sequence[Mapping[str, Tensor] | tuple[Tensor, ...]]
    ) -> list[Self]: ...

    @classmethod
    def jit_rewrap(cls, value: Any) -> Any:
        """Return an instance made of a trace's input or output.

        That is a dictionary of the fields, a tuple of them in order, or a list or tuple of such,
        which gives a list. An instance and `None` are returned as they are.
        """
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            for key in value:
                cls._check_key(key)
            return cls(**value)
        if isinstance(value, tuple) and any(isinstance(member, Tensor) for member in value):
            return cls._from_tuple(value)
        if isinstance(value, list | tuple):
            return [cls.jit_rewrap(member) for member in value]
        raise TypeError(
            f"{cls.__name__} is made of a dictionary or tuple of tensors, or a list of such, "
            f"not of {type(value).__name__}"
        )

    @classmethod
    def _from_tuple(cls, members: tuple[Tensor, ...]) -> Self:
        names = [field.name for field in fields(cls)]
        if len(members) != len(names):
            raise TypeError(
                f"{cls.__name__} is made of {len(names)} tensors ({', '.join(names)}), "
                f"not of {len(members)}"
            )
        return cls(*members)

    def __setattr__(self, name: str, value: Tensor) -> None:
        """Set a field and its key."""
        kind = type(self).__name__
        names = [field.name for field in fields(self)]
        if name not in names:
            raise AttributeError(f"{kind} has no field {name}, only {', '.join(names)}")
        if not isinstance(value, Tensor):
            raise TypeError(f"{kind}.{name} must be a Tensor, not {type(value).__name__}")
        super().__setattr__(name, value)
        super().__setitem__(name, value)

    def __setitem__(self, key: str, value: Tensor) -> None:
        """Set a key and its field."""
        self._check_key(key)
        try:
            setattr(self, key, value)
        except AttributeError as error:
            raise KeyError(str(error)) from None

    # dict's own methods would not call __setitem__.

    def update(self, *args: Any, **kwargs: Tensor) -> None:
        """Set several fields."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Tensor:
        """Return a field, which always has a value."""
        self._check_key(key)
        return self[key]

    @classmethod
    def _check_key(cls, key: object) -> None:
        if not isinstance(key, str):
            raise TypeError(f"a key of {cls.__name__} must be a str, not {type(key).__name__}")

    def _refuse(self, *_: Any) -> NoReturn:
        """Refuse to remove a field."""
        raise TypeError(f"{type(self).__name__} keeps all its fields: none can be removed")

    __delitem__ = __delattr__ = pop = popitem = clear = _refuse


@dataclass
class DataclassAsTuple:
    """Base of immutable dataclasses that leave a trace as tuples, without their `None`s.

    Members are tensors, dataclasses of them, and lists and tuples of either.

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
        """Return the members that are not `None` as nested tuples."""
        return cast(tuple[Any, ...], _erase(self, type(self).__name__))

    def jit_unwrap(self) -> Self:
        """Return the tuple while tracing, else the object; the declared type is the eager one."""
        return cast(Self, self.astuple()) if is_tracing() else self

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field that has no value yet, as `__init__` does."""
        kind = type(self).__name__
        if name in vars(self) or name not in [field.name for field in fields(self)]:
            raise TypeError(f"{kind} cannot be changed: make another one instead of setting {name}")
        if value is not None:
            _erase(value, f"{kind}.{name}")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        """Refuse to remove a field."""
        raise TypeError(f"{type(self).__name__} cannot be changed: {name} cannot be deleted")


def _erase(value: Any, name: str) -> Any:
    """Return `value`, which errors call `name`, as tensors and tuples."""
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

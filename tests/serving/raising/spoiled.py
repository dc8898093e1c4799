"""Arguments that a model cannot compute, as of a wrong tokenizer, mask or shape."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch

Arguments = tuple[Any, ...]
Spoil = Callable[[Arguments, random.Random], Arguments]

#: Numbers of rows for which one operator's output hardly fits into memory, or does not.
MANY_ROWS = (1 << 17, 1 << 20, 1 << 30, 1 << 45)


def _beyond(arguments: Arguments, choice: random.Random) -> Arguments:
    ids = arguments[0].clone()
    ids[choice.randrange(len(ids)), choice.randrange(ids.shape[1])] = choice.choice((-1, 1 << 40))
    return (ids, *arguments[1:])


def _many_rows(arguments: Arguments, choice: random.Random) -> Arguments:
    rows = choice.choice(MANY_ROWS)
    return tuple(each[:1].expand(rows, -1) for each in arguments)


def _last_of_another_length(arguments: Arguments, choice: random.Random) -> Arguments:
    other = torch.ones(len(arguments[-1]), arguments[-1].shape[1] + choice.choice((-1, 3)))
    return (*arguments[:-1], other.to(arguments[-1].dtype))


def _every(change: Callable[[torch.Tensor], object]) -> Spoil:
    return lambda arguments, _: tuple(change(each) for each in arguments)


SPOILS: dict[str, Spoil] = {
    "id beyond the table": _beyond,
    "last argument beyond its table": lambda each, _: (*each[:-1], each[-1] + 1000000),
    "out of memory": _many_rows,
    "too long": _every(lambda each: each.repeat(1, 2000)),
    "another length": _last_of_another_length,
    "float": _every(lambda each: each.float()),
    "one dimension": _every(lambda each: each[0]),
    "four dimensions": _every(lambda each: each[None, None]),
    "complex": _every(lambda each: each.to(torch.complex64)),
    "no length": _every(lambda each: each[:, :0]),
    "an argument too few": lambda each, _: each[:-1],
    "an argument too many": lambda each, _: (*each, each[0]),
    "text": _every(lambda each: "text"),
    "none": _every(lambda each: None),
    "meta": _every(lambda each: each.to("meta")),
    "sparse": _every(lambda each: each.to_sparse()),
}

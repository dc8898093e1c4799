"""Random TorchScript modules that compute like a small model, and raise on a chosen id."""

from __future__ import annotations

import importlib.util
import random
from dataclasses import dataclass
from pathlib import Path

import torch

from torchscript_bundle.jit import tracing
from torchscript_bundle.jit.deprecation import accept_deprecation

WIDTH, TOKENS = 512, 600
#: The first id on which a program raises.
RAISE = 1

#: Statements that raise, on floats `x` `[batch, length, WIDTH]` and int64 `ids` `[batch, length]`.
STATEMENTS = {
    "embedding": "x = x + self.table(ids + 100000)",
    "gather": "x = x + x.gather(1, ids.unsqueeze(2) + 100000)",
    "index": "x = x[ids + 100000]",
    "index_select": "x = x.index_select(1, ids.flatten() + 100000)",
    "scatter": "x = x.scatter(1, ids.unsqueeze(2) - 100000, 1.0)",
    "sum": "x = x + x.new_zeros([3, 7, WIDTH + 1])",
    "view": "x = x.view([7, 11, 13])",
    "product": "x = torch.matmul(x, x)",
    "linear": "x = torch.nn.functional.linear(x, x.new_zeros([3, 5]))",
    "attention": "x = torch.nn.functional.scaled_dot_product_attention(x, x, x, x[:, :, :7])",
    "norm": "x = torch.nn.functional.layer_norm(x, [WIDTH + 1])",
    "cat": "x = torch.cat([x, x[:, :, :2]], dim=1)",
    "slice": "x = x.narrow(1, 0, x.size(1) + 1)",
    "dtype": "x = torch.bmm(x.transpose(1, 2), ids.unsqueeze(2))",
    "indices": "x = torch.nn.functional.embedding(x, x)",
    "write": "x = x.copy_(ids.unsqueeze(0).unsqueeze(0).new_zeros([5, 6, 7, 8]))",
    "memory": "x = x + torch.ones([1 << 46])[:1]",
    "list_memory": "x = x * len([0] * (1 << 46))",
    "negative_size": "x = x + torch.zeros([-3])",
    "scalar": "x = x * int(ids.unsqueeze(2).expand([-1, -1, 2]))",
    "division": "x = x * (1 // (ids.size(0) * 0))",
    "tensor_division": "x = x * (ids // 0).unsqueeze(2)",
    "number": "x = x * int('abc')",
    "list": "x = x * [1, 2][ids.size(0) + 7]",
    "pop": "empty: List[int] = []\nx = x * empty.pop()",
    "key": "x = x * {'a': 1}['b']",
    "optional": "nothing: List[Optional[int]] = [None]\n"
    "x = x * torch.jit._unwrap_optional(nothing[0])",
    "device": "x = x.to('cuda').to('cpu') + x.to('meta')",
    "raise": "raise ValueError('what a model says')",
    "assert": "assert ids.size(0) == 77, f'not {ids.size(0)}'",
}

#: What surrounds a statement: a condition, without which examples could not run.
PLACES = {
    "branch": "if int(ids[0, 0]) == RAISE:\n{0}",
    "else": "if int(ids[0, 0]) != RAISE:\n    x = x + 1.0\nelse:\n{0}",
    "loop": "for at in range(3):\n    if at == 1 and int(ids[0, 0]) == RAISE:\n{1}",
    "while": "while int(ids[0, 0]) == RAISE:\n{0}",
}

_HEAD = """from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor
"""

_PART = """

class Part{number}(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding({TOKENS}, {WIDTH})
        self.layer = torch.nn.Linear({WIDTH}, {WIDTH})
        self.part = {inner}

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        x = torch.nn.functional.gelu(self.layer(x)) + self.table(ids)
{statement}
        return x
"""

_WHOLE = """

class Program(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding({TOKENS}, {WIDTH})
        self.part = Part0()
        self.head = torch.nn.Linear({WIDTH}, 16)

    def forward(self, ids: Tensor) -> Tuple[Tensor]:
        return (self.head(self.part(self.table(ids), ids)),)
"""


@dataclass(frozen=True)
class Program:
    """A saved module.

    Attributes:
        path: of its file.
        kind: the statement that raises, and where it stands.
        examples: arguments on which it returns.
        raising: arguments on which it raises.
    """

    path: Path
    kind: str
    examples: list[tuple[torch.Tensor, ...]]
    raising: list[tuple[torch.Tensor, ...]]


def write_program(kind: str, folder: Path, choice: random.Random) -> Program:
    """Save a module with a statement of this kind somewhere in it."""
    place, depth = choice.choice(list(PLACES)), choice.randint(1, 3)
    source = _source(kind, place, depth)
    name = f"program_{kind}_{place}_{depth}"
    file = folder / f"{name}.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with accept_deprecation():
        scripted = torch.jit.script(module.Program().eval())
    tracing.save(scripted, folder / f"{name}.pt")
    shapes = [(1, 3), (2, 5), (3, 4)]
    return Program(
        folder / f"{name}.pt",
        f"{kind} in {place} at depth {depth}",
        [(_ids(choice, *shape),) for shape in shapes],
        [(_ids(choice, *shape, first=RAISE),) for shape in (shapes[0], (2, 6))],
    )


def _ids(choice: random.Random, rows: int, length: int, first: int = RAISE + 1) -> torch.Tensor:
    ids = [[choice.randrange(2, TOKENS) for _ in range(length)] for _ in range(rows)]
    ids[0][0] = first
    return torch.tensor(ids)


def _source(kind: str, place: str, depth: int) -> str:
    parts = []
    for number in reversed(range(depth)):
        last = number == depth - 1
        statement = _placed(kind, place) if last else "x = self.part(x, ids)"
        inner = "None" if last else f"Part{number + 1}()"
        sizes = {"TOKENS": TOKENS, "WIDTH": WIDTH}
        statement = _indented(statement, 8)
        parts.append(_PART.format(number=number, inner=inner, statement=statement, **sizes))
    return "".join([_HEAD, *parts, _WHOLE.format(TOKENS=TOKENS, WIDTH=WIDTH)])


def _placed(kind: str, place: str) -> str:
    statement = STATEMENTS[kind].replace("WIDTH", str(WIDTH))
    placed = PLACES[place].format(_indented(statement, 4), _indented(statement, 8))
    return placed.replace("RAISE", str(RAISE))


def _indented(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in text.splitlines())

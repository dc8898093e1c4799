"""Frozen graphs: the same computation and constants, and nothing of the module."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.serving.engine.onednn.helpers import floats, reload
from torchscript_bundle.serving.engine.comparison import UnavailableError
from torchscript_bundle.serving.engine.onednn.frozen_graphs import detached, frozen_graphs
from torchscript_bundle.serving.engine.onednn.ir import all_nodes

#: Numbers that text with few digits would change.
FLOATS = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, math.inf, -math.inf, math.nan]
INTS = [0, -(2**63), 2**63 - 1]
CONSTANTS: list[Any] = [
    *FLOATS,
    *INTS,
    True,
    None,
    1 / 3 + 0.1j,
    'quoted "text"\n\0\xe9 ✅ %x : int',
    torch.device("cpu"),
    torch.device("cuda:3"),
    [1, 2**62],
    FLOATS,
    ["a", ""],
    (1, (0.1, "x"), [0.1]),
    torch.arange(210.0).view(3, 70) / 3,
    torch.tensor([0.1, 1 / 3], dtype=torch.float64)[::2],
    torch.tensor(0.1),
]


def bits(value: Any) -> object:
    """A value that is equal where every bit is."""
    if isinstance(value, float):
        return struct.pack("d", value)
    if isinstance(value, (list, tuple)):
        return type(value), [bits(each) for each in value]
    if isinstance(value, Tensor):
        # The memory as well: a copy of weights would be held beside them.
        return value.data_ptr(), value.dtype, value.shape, value.stride()
    return type(value), value


def test_constants_are_the_same_to_the_last_bit() -> None:
    graph = torch._C.Graph()
    for value in CONSTANTS:
        graph.registerOutput(graph.insertConstant(value))  # type: ignore[attr-defined]
    copy = detached(graph)
    assert len(list(copy.outputs())) == len(CONSTANTS)
    for value, old, new in zip(CONSTANTS, graph.outputs(), copy.outputs(), strict=True):
        assert bits(new.toIValue()) == bits(old.toIValue())
        assert str(new.type()) == str(old.type())
        if not isinstance(value, Tensor):
            assert bits(new.toIValue()) == bits(value)


def branches(x: Tensor, times: int) -> tuple[Tensor, list[int], dict[str, float | None]]:
    """Blocks in blocks, values from outside, several outputs, an operator without any."""
    sizes = [1, 2]
    other = x
    for at in range(times):
        if at % 3 == 0:
            x, other = other * 1.2345678901234567 + at, x
            size = 3
        elif bool(x.sum() > 1.0):
            while int(other.abs().sum()) > 10:
                other = other / 3.0
            size = x.size(0)
        else:
            size = 4
        sizes.append(size)
    if x.dim() == 1:
        raise ValueError("one dimension")
    named: dict[str, float | None] = {"a": None, "b": 0.1}
    return x + other, sizes, named


def run(graph: torch._C.Graph, *arguments: Any) -> Any:
    return torch._C._create_function_from_graph("run", graph)(*arguments)


def test_loops_and_branches_compute_the_same() -> None:
    graph = torch.jit.script(branches).graph  # type: ignore[attr-defined]
    before = str(graph)
    copy = detached(graph)
    copy.lint()
    kinds = [node.kind() for node in all_nodes(graph)]
    assert [node.kind() for node in all_nodes(copy)] == kinds
    assert {"prim::Loop", "prim::If", "prim::RaiseException"} <= set(kinds)
    for times in range(8):
        x = floats(2, 3, seed=times) * times
        (expected, *others), (found, *theirs) = run(graph, x, times), run(copy, x, times)
        assert torch.equal(expected, found)
        assert others == theirs
    with pytest.raises(torch.jit.Error, match="one dimension"):
        run(copy, torch.ones(3), 1)
    assert str(graph) == before


class Half(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x))


class Forking(torch.nn.Module):
    """Runs a half of itself as a task, whose graph is an attribute of a node."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = Half(), Half()

    def forward(self, x: Tensor) -> tuple[Tensor]:
        task = torch.jit.fork(self.one, x)
        return (self.other(x) + torch.jit.wait(task),)


def sources(graph: torch._C.Graph) -> list[str]:
    """Where nodes say that they come from, those of tasks as well."""
    found = []
    for node in all_nodes(graph):
        found.append(node.sourceRange())
        for name in node.attributeNames():
            if node.kindOf(name) == "g":
                found += sources(node.g(name))
    return found


def test_no_node_knows_its_module(tmp_path: Path) -> None:
    module = reload(Forking(), tmp_path / "module.pt")
    x = floats(2, 4)
    expected = module(x)[0]
    graph = frozen_graphs(module, ["forward"])["forward"]
    assert "prim::fork" in {node.kind() for node in all_nodes(graph)}
    assert len(sources(graph)) > 5
    assert not any(sources(graph))
    assert torch.equal(run(graph, x)[0], expected)


def twice(x: Tensor) -> Tensor:
    return x + x


def calling(x: Tensor) -> Tensor:
    return twice(x)


def test_graph_that_calls_a_function_is_refused() -> None:
    graph = torch.jit.script(calling).graph  # type: ignore[attr-defined]
    with pytest.raises(UnavailableError, match="calls a function"):
        detached(graph)

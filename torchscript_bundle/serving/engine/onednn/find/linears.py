"""Finds the linear layers of a frozen graph, and writes each as one `aten::linear`.

Beside `aten::linear`, a graph may hold a linear layer as `addmm` between two views (the Conv1D of
GPT-2) or as a product with a constant matrix, its bias added after.
"""

from __future__ import annotations

import torch

from torchscript_bundle.serving.engine.onednn.graph_editing import (
    Graph,
    Node,
    Value,
    all_nodes,
    constant_of,
    constant_tensor,
    insert,
    insert_constant,
    moves_safely,
    nodes_of,
    only_user,
)

LINEAR = "aten::linear"
_LINEAR = """graph(%input, %weight, %bias):
  %output : Tensor = aten::linear(%input, %weight, %bias)
  return (%output)"""


def is_packable(node: Node) -> bool:
    """Whether a node is a linear layer whose float32 weight `[out, in]` and bias never change."""
    if node.kind() != LINEAR:
        return False
    _, weight, bias = node.inputs()
    matrix = constant_tensor(weight)
    if matrix is None or matrix.dim() != 2 or matrix.dtype != torch.float32:
        return False
    return bias.node().kind() == "prim::Constant"


def packable(graph: Graph) -> list[Node]:
    """The linear layers that `is_packable`, in order."""
    return [node for node in nodes_of(graph, LINEAR) if is_packable(node)]


def weight_of(linear: Node) -> torch.Tensor:
    """The weight `[out, in]` of a layer that `is_packable`."""
    weight = constant_tensor(linear.inputsAt(1))
    assert weight is not None
    return weight


def write_as_linear(graph: Graph) -> None:
    """Turns every product with a constant matrix into an `aten::linear`."""
    for node in list(all_nodes(graph)):
        if node.kind() in ("aten::matmul", "aten::mm"):
            _from_product(graph, node)
        elif node.kind() == "aten::addmm":
            _from_addmm(graph, node)
    for node in nodes_of(graph, LINEAR):
        _drop_flattening(node)


def _from_product(graph: Graph, product: Node) -> None:
    weight = constant_tensor(product.inputsAt(1))
    if weight is None or weight.dim() != 2:
        return
    last, bias = product, None
    user = only_user(product.output())
    if user is not None and user.kind() == "aten::add" and constant_of(user.inputsAt(2)) == 1:
        added = user.inputsAt(1 if user.inputsAt(0) == product.output() else 0)
        vector = constant_tensor(added)
        if vector is not None and vector.shape == weight.shape[1:] and moves_safely(product, user):
            last, bias = user, vector
    _replace(graph, last, product.inputsAt(0), weight, bias)


def _from_addmm(graph: Graph, node: Node) -> None:
    bias, weight = constant_tensor(node.inputsAt(0)), constant_tensor(node.inputsAt(2))
    if bias is None or weight is None or bias.shape != weight.shape[1:]:
        return
    if constant_of(node.inputsAt(3)) == 1 and constant_of(node.inputsAt(4)) == 1:
        _replace(graph, node, node.inputsAt(1), weight, bias)


def _replace(
    graph: Graph, last: Node, given: Value, weight: torch.Tensor, bias: torch.Tensor | None
) -> None:
    """Puts a linear layer of the weight `[in, out]` where `last` is."""
    constants = (insert_constant(graph, last, each) for each in (weight.t(), bias))
    last.output().replaceAllUsesWith(insert(graph, last, _LINEAR, given, *constants))


def _drop_flattening(linear: Node) -> None:
    """Removes views that make two dimensions of the input and undo it on the output.

    A linear layer takes any number of dimensions. Between the views, nothing that is added to the
    output afterwards has its shape, so that it could not be fused.
    """
    given, weight, _ = linear.inputs()
    matrix = constant_tensor(weight)
    if matrix is None or given.node().kind() != "aten::view":
        return
    original, shape = given.node().inputs()
    flat = _items(shape)
    if len(flat) != 2 or constant_of(flat[0]) != -1 or not _is_size(flat[1], original, -1, matrix):
        return
    views = [use.user for use in linear.output().uses()]
    if not views or not all(_restores(view, linear.output(), original, matrix) for view in views):
        return
    linear.replaceInput(0, original)
    for view in views:
        view.output().replaceAllUsesWith(linear.output())


def _restores(view: Node, output: Value, original: Value, matrix: torch.Tensor) -> bool:
    """Whether a view gives the output all dimensions of the original but the last."""
    if view.kind() != "aten::view" or view.inputsAt(0) != output:
        return False
    *rows, features = _items(view.inputsAt(1)) or [output]
    return (
        len(rows) > 0
        and all(_is_size(each, original, at, matrix) for at, each in enumerate(rows))
        and constant_of(features) == matrix.shape[0]
    )


def _items(value: Value) -> list[Value]:
    """The members of a list made on the spot."""
    return list(value.node().inputs()) if value.node().kind() == "prim::ListConstruct" else []


def _is_size(value: Value, tensor: Value, dimension: int, matrix: torch.Tensor) -> bool:
    """Whether a number is a dimension of a tensor whose last one is that of a weight."""
    if dimension == -1 and constant_of(value) == matrix.shape[1]:
        return True
    node = value.node()
    return (
        node.kind() == "aten::size"
        and node.inputsAt(0) == tensor
        and constant_of(node.inputsAt(1)) == dimension
    )

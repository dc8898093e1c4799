"""Find the linear layers of a frozen graph, and write each as one `aten::linear`.

A graph may also hold a linear layer as `addmm` between two views (GPT-2's Conv1D) or as a product
with a constant matrix, with or without a bias added to it.
"""

from __future__ import annotations

import torch

from torchscript_bundle.serving.engine.onednn import ir

LINEAR = "aten::linear"
_LINEAR = """graph(%input, %weight, %bias):
  %output : Tensor = aten::linear(%input, %weight, %bias)
  return (%output)"""


def is_packable(node: ir.Node) -> bool:
    """Tell whether a node is a linear layer with a constant float32 weight `[out, in]` and bias."""
    if node.kind() != LINEAR:
        return False
    weight = ir.constant_tensor(node.inputsAt(1))
    if weight is None or weight.dim() != 2 or weight.dtype != torch.float32:
        return False
    return node.inputsAt(2).node().kind() == "prim::Constant"


def packable_linears(graph: ir.Graph) -> list[ir.Node]:
    """Return the packable linear layers, in order."""
    return [node for node in ir.nodes_of(graph, LINEAR) if is_packable(node)]


def weight_of(linear: ir.Node) -> torch.Tensor:
    """Return the weight `[out, in]` of a packable layer."""
    weight = ir.constant_tensor(linear.inputsAt(1))
    assert weight is not None
    return weight


def write_as_linears(graph: ir.Graph) -> None:
    """Write every product with a constant matrix as an `aten::linear`."""
    for node in list(ir.all_nodes(graph)):
        if node.kind() in ("aten::matmul", "aten::mm"):
            _from_product(graph, node)
        elif node.kind() == "aten::addmm":
            _from_addmm(graph, node)
    for node in ir.nodes_of(graph, LINEAR):
        _drop_flattening(node)


def _from_product(graph: ir.Graph, product: ir.Node) -> None:
    weight = ir.constant_tensor(product.inputsAt(1))
    if weight is None or weight.dim() != 2:
        return
    last, bias = product, None
    user = ir.only_user(product.output())
    if user is not None and user.kind() == "aten::add" and ir.constant_of(user.inputsAt(2)) == 1:
        added = ir.constant_tensor(user.inputsAt(int(user.inputsAt(0) == product.output())))
        fits = added is not None and added.shape == weight.shape[1:]
        if fits and ir.moves_safely(product, user):
            last, bias = user, added
    _replace(graph, last, product.inputsAt(0), weight, bias)


def _from_addmm(graph: ir.Graph, node: ir.Node) -> None:
    bias, given, weight, beta, alpha = node.inputs()
    vector, matrix = ir.constant_tensor(bias), ir.constant_tensor(weight)
    if vector is None or matrix is None or vector.shape != matrix.shape[1:]:
        return
    if ir.constant_of(beta) == 1 and ir.constant_of(alpha) == 1:
        _replace(graph, node, given, matrix, vector)


def _replace(
    graph: ir.Graph, last: ir.Node, given: ir.Value, weight: torch.Tensor, bias: torch.Tensor | None
) -> None:
    """Put a linear layer of the weight `[in, out]` where `last` is."""
    constants = (ir.insert_constant(graph, last, each) for each in (weight.t(), bias))
    last.output().replaceAllUsesWith(ir.insert(graph, last, _LINEAR, given, *constants))


def _drop_flattening(linear: ir.Node) -> None:
    """Remove a view that flattens the input to two dimensions, and those that undo it.

    A linear layer takes any number of dimensions. Between the views its output has another shape
    than a later operand of a sum, which would prevent their fusion.
    """
    given, weight = linear.inputsAt(0), ir.constant_tensor(linear.inputsAt(1))
    if weight is None or given.node().kind() != "aten::view":
        return
    original, shape = given.node().inputs()
    flat = _items(shape)
    if len(flat) != 2 or ir.constant_of(flat[0]) != -1:
        return
    views = [use.user for use in linear.output().uses()]
    restored = all(_restores(view, linear.output(), original, weight) for view in views)
    if views and restored and _is_size(flat[1], original, -1, weight):
        linear.replaceInput(0, original)
        for view in views:
            view.output().replaceAllUsesWith(linear.output())


def _restores(view: ir.Node, output: ir.Value, original: ir.Value, weight: torch.Tensor) -> bool:
    """Tell whether a view gives the output all dimensions of the original but the last."""
    if view.kind() != "aten::view" or view.inputsAt(0) != output:
        return False
    *rows, features = _items(view.inputsAt(1)) or [output]
    sizes = all(_is_size(each, original, at, weight) for at, each in enumerate(rows))
    return len(rows) > 0 and sizes and ir.constant_of(features) == weight.shape[0]


def _items(value: ir.Value) -> list[ir.Value]:
    return list(value.node().inputs()) if value.node().kind() == "prim::ListConstruct" else []


def _is_size(value: ir.Value, tensor: ir.Value, dimension: int, weight: torch.Tensor) -> bool:
    """Tell whether a number is the size of a dimension of the layer's input."""
    if dimension == -1 and ir.constant_of(value) == weight.shape[1]:
        return True
    node = value.node()
    if node.kind() != "aten::size" or node.inputsAt(0) != tensor:
        return False
    return ir.constant_of(node.inputsAt(1)) == dimension

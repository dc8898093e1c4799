"""Repeat the rows of packed float32 layers that have fewer than four, since four are faster.

All layers of GPT-2 once (Zen 4, two threads): 21, 34, 22 and 19 ms with 1, 2, 3 and 4 rows. Weights
of bfloat16 gain nothing. The outputs of repeated rows are cut off.
"""

from __future__ import annotations

from torchscript_bundle.serving.engine.onednn import ir
from torchscript_bundle.serving.engine.onednn.edited_graph import EditedGraph
from torchscript_bundle.serving.engine.onednn.rewrite.linear_fusion import PACKED_LINEAR, is_binary

ROWS = 4

_UNARY = "(%input, %packed, %bias, %function, %scalars : Scalar?[], %algorithm)"
_BINARY = "(%input, %other, %packed, %bias, %function)"

#: Only where all dimensions but the first and last are 1, since the first is repeated.
_TEMPLATE = """graph{inputs}:
  {constants}
  %rows : int = aten::size(%input, %zero)
  %features : int = aten::size(%input, %last)
  %size : int = aten::mul(%rows, %features)
  %numbers : int = aten::numel(%input)
  %flat : bool = aten::eq(%numbers, %size)
  %single : bool = aten::eq(%rows, %one)
  %below : bool = aten::lt(%rows, %most)
  %few : bool = aten::__and__(%flat, %below)
  {also}
  %output : Tensor = prim::If(%{condition})
    block0():
      {repeated}
      %computed : Tensor = mkldnn::_linear_pointwise{four}
      %kept : Tensor = aten::slice(%computed, %zero, %zero, %rows, %one)
      -> (%kept)
    block1():
      %plain : Tensor = mkldnn::_linear_pointwise{given}
      -> (%plain)
  return (%output)"""

#: A single row is expanded, which copies nothing; several are copied.
_REPEAT = """%{name}_four : Tensor = prim::If(%single)
        block0():
          %{name}_shape : int[] = aten::size(%{name})
          %{name}_changed : int[] = aten::_set_item(%{name}_shape, %zero, %most)
          %{name}_view : Tensor = aten::expand(%{name}, %{name}_shape, %no)
          -> (%{name}_view)
        block1():
          %{name}_list : Tensor[] = prim::ListConstruct(%{name}, %{name}, %{name}, %{name})
          %{name}_many : Tensor = aten::cat(%{name}_list, %zero)
          %{name}_first : Tensor = aten::slice(%{name}_many, %zero, %zero, %most, %one)
          -> (%{name}_first)"""

#: Only a second operand of as many rows is repeated: any other must fail as it would alone.
_SAME_ROWS = """%others : int = aten::size(%other, %zero)
  %same : bool = aten::eq(%others, %rows)
  %both : bool = aten::__and__(%few, %same)"""


def _template(inputs: str, repeated: tuple[str, ...], also: str, condition: str) -> str:
    given = inputs.replace(" : Scalar?[]", "")
    four = given
    for name in repeated:
        four = four.replace(f"%{name}", f"%{name}_four")
    return _TEMPLATE.format(
        inputs=inputs,
        constants=ir.constants(zero=0, one=1, last=-1, no=False, most=ROWS),
        also=also,
        condition=condition,
        repeated="\n      ".join(_REPEAT.format(name=name) for name in repeated),
        four=four,
        given=given,
    )


UNARY = _template(_UNARY, ("input",), "", "few")
BINARY = _template(_BINARY, ("input", "other"), _SAME_ROWS, "both")


def repeat_few_rows(edited: EditedGraph) -> None:
    """Put a branch for few rows around every packed layer, unless batches are merged."""
    for node in [] if edited.merged else ir.nodes_of(edited.graph, PACKED_LINEAR):
        template = BINARY if is_binary(node) else UNARY
        node.output().replaceAllUsesWith(ir.insert(edited.graph, node, template, *node.inputs()))

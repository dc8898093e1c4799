"""Compute bfloat16 attention as two matrix products where they beat torch's fused operator.

The fused operator multiplies bfloat16 slowly on CPUs without AMX, but starts quickly; the products
need memory for all scores.
"""

from __future__ import annotations

from torchscript_bundle.serving.engine.onednn import ir

ATTENTION = "aten::scaled_dot_product_attention"

#: Fewest and most scores (rows x heads x queries x keys) that are computed as products.
FEWEST_SCORES = 50_000
MOST_SCORES = 1 << 25

# A masked key gets -1e30, not -inf: where all keys of a query are masked (left padding and a causal
# mask), softmax would give NaN, which even a weight of zero passes on to other queries.
_ADDED_MASK = f"""graph(%mask):
  {ir.constants(bfloat16=15, bool=11, no=False, none=None, one=1, least=-1e30, most=1e30)}
  %dtype : int = prim::dtype(%mask)
  %boolean : bool = aten::eq(%dtype, %bool)
  %lowered : Tensor = aten::to(%mask, %bfloat16, %no, %no, %none)
  %added : Tensor = prim::If(%boolean)
    block0():
      %below : Tensor = aten::sub(%lowered, %one, %one)
      %chosen : Tensor = aten::mul(%below, %most)
      -> (%chosen)
    block1():
      %clamped : Tensor = aten::clamp(%lowered, %least, %none)
      -> (%clamped)
  return (%added)"""

_PRODUCTS_OR_FUSED = f"""graph(%query, %key, %value, %mask, %scale : float):
  {ir.constants(fewest=FEWEST_SCORES, most=MOST_SCORES, no=False, nothing=0.0, none=None)}
  {ir.constants(zero=0, one=1, last=-1, before=-2)}
  %rows : int = aten::size(%query, %zero)
  %heads : int = aten::size(%query, %one)
  %queries : int = aten::size(%query, %before)
  %keys : int = aten::size(%key, %before)
  %sets : int = aten::mul(%rows, %heads)
  %each : int = aten::mul(%queries, %keys)
  %scores : int = aten::mul(%sets, %each)
  %enough : bool = aten::ge(%scores, %fewest)
  %fits : bool = aten::le(%scores, %most)
  %products : bool = aten::__and__(%enough, %fits)
  %output : Tensor = prim::If(%products)
    block0():
      %turned : Tensor = aten::transpose(%key, %before, %last)
      %similar : Tensor = aten::matmul(%query, %turned)
      %masked : Tensor = aten::add(%mask, %similar, %scale)
      %weights : Tensor = aten::softmax(%masked, %last, %none)
      %mixed : Tensor = aten::matmul(%weights, %value)
      -> (%mixed)
    block1():
      %fused : Tensor = aten::scaled_dot_product_attention(
        %query, %key, %value, %mask, %nothing, %no, %scale, %no)
      -> (%fused)
  return (%output)"""


def choose_products(graph: ir.Graph, attentions: list[ir.Node], *, in_place: bool) -> None:
    """Rewrite bfloat16 attention with a tensor as mask, a constant scale and nothing unusual.

    `in_place` says that some operator writes into a tensor, so that a mask may change.
    """
    masks: dict[int, ir.Value] = {}
    for node in attentions:
        query, key, value, mask, dropout, causal, scale, grouped = node.inputs()
        usual = (ir.constant_of(dropout), ir.constant_of(causal), ir.constant_of(grouped))
        if usual != (0.0, False, False) or not isinstance(ir.constant_of(scale), float):
            continue
        if mask.type().kind() != "TensorType":
            continue
        if in_place or mask.node().kind() == "prim::Param":
            added = ir.insert(graph, node, _ADDED_MASK, mask)
        elif mask.unique() in masks:
            added = masks[mask.unique()]
        else:
            added = ir.insert(graph, ir.next_node(mask.node()), _ADDED_MASK, mask)
            masks[mask.unique()] = added
        output = ir.insert(graph, node, _PRODUCTS_OR_FUSED, query, key, value, added, scale)
        node.output().replaceAllUsesWith(output)

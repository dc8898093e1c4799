"""Weights in the layout that oneDNN multiplies fastest, each packed once for all graphs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torchscript_bundle.serving.engine.comparison import UnavailableError

#: Operators that come with builds of torch for x86 and few others.
OPERATORS = ("mkldnn::_linear_pointwise", "mkldnn::_reorder_linear_weight")

#: Rows for which the layout is chosen. Any number runs; it matters for few.
ROWS = 16


def has_bfloat16() -> bool:
    """Ask torch whether this CPU has bfloat16 instructions that oneDNN uses."""
    # A torch without oneDNN has no such operator.
    available = torch.backends.mkldnn.is_available()
    return available and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def require_operators(names: Sequence[str]) -> None:
    """Raise UnavailableError unless this build of torch has the operators."""
    missing = [name for name in names if not torch._C._jit_get_schemas_for_operator(name)]
    if missing:
        raise UnavailableError(f"this torch has no {', '.join(missing)}")


def key_of(weights: Sequence[torch.Tensor]) -> tuple[object, ...]:
    """Return a key of weights, by their addresses: it is theirs only as long as they live."""
    return tuple((each.data_ptr(), each.shape, each.stride()) for each in weights)


def concatenate(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """Concatenate the weights `[out, in]` or biases `[out]` of layers that read one input."""
    return (torch.cat(list(weights)) if len(weights) > 1 else weights[0]).detach()


class PackedWeights:
    """Packs weights of linear layers in float32 or bfloat16."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._packed: dict[object, tuple[Sequence[torch.Tensor], torch.Tensor]] = {}
        require_operators(OPERATORS)
        if not torch.backends.mkldnn.is_available():
            raise UnavailableError("this torch is built without oneDNN")
        if dtype == torch.bfloat16 and not has_bfloat16():
            raise UnavailableError("this CPU has no bfloat16 instructions that oneDNN uses")

    def pack(self, weights: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return one packed weight for several `[out, in]` that read the same input."""
        key = key_of(weights)
        if key not in self._packed:
            dense = concatenate(weights).to(self.dtype).contiguous()
            self._packed[key] = weights, torch.ops.mkldnn._reorder_linear_weight(dense, ROWS)
        return self._packed[key][1]

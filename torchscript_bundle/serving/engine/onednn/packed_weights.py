"""Packed weights, each made once however many graphs use it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torchscript_bundle.serving.engine.comparison import NotPackedError

#: Operators that come with builds of torch for x86 and few others.
OPERATORS = ("mkldnn::_linear_pointwise", "mkldnn::_reorder_linear_weight")

#: Rows that the layout is chosen for. Any number runs; few are where the layout matters.
ROWS = 16


def has_bfloat16() -> bool:
    """Ask torch whether this CPU has bfloat16 instructions that oneDNN uses."""
    # A torch without oneDNN has no such operator.
    available = torch.backends.mkldnn.is_available()
    return available and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class PackedWeights:
    """Packs weights of linear layers into the layout that oneDNN multiplies fastest.

    Args:
        dtype: of the packed copies, float32 or bfloat16.

    Raises:
        NotPackedError: this build of torch, or this CPU, cannot.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._packed: dict[tuple[object, ...], torch.Tensor] = {}
        # A key holds addresses, which stay theirs only as long as the tensors live.
        self._sources: list[torch.Tensor] = []
        missing = [name for name in OPERATORS if not torch._C._jit_get_schemas_for_operator(name)]
        if missing:
            raise NotPackedError(f"this torch has no {', '.join(missing)}")
        if not torch.backends.mkldnn.is_available():
            raise NotPackedError("this torch is built without oneDNN")
        if dtype == torch.bfloat16 and not has_bfloat16():
            raise NotPackedError("this CPU has no bfloat16 instructions that oneDNN uses")

    def pack(self, weights: Sequence[torch.Tensor]) -> torch.Tensor:
        """One packed weight of several `[out, in]` that read the same input, joined by rows."""
        key = tuple((each.data_ptr(), each.shape, each.stride()) for each in weights)
        if key not in self._packed:
            self._sources.extend(weights)
            joined = torch.cat(list(weights)) if len(weights) > 1 else weights[0]
            dense = joined.detach().to(self.dtype).contiguous()
            self._packed[key] = torch.ops.mkldnn._reorder_linear_weight(dense, ROWS)
        return self._packed[key]

    def cast(self, bias: torch.Tensor | None) -> torch.Tensor | None:
        """A bias in the dtype of the packed weights."""
        return None if bias is None else bias.detach().to(self.dtype)

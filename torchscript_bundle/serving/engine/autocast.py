"""Half precision on a GPU: autocast runs matrix products in 16 bits, sums and norms in float32.

Casting the whole module would not do: a trace keeps the dtype of the masks that the model made.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torchscript_bundle.serving.engine.comparison import (
    GRAPH_ERRORS,
    TOLERANCES,
    UnavailableError,
    difference,
)
from torchscript_bundle.serving.engine.onednn import Arguments
from torchscript_bundle.serving.errors import last_line


class HalfModule:
    """Runs a module in float16 or bfloat16 under autocast, with float32 outputs.

    `examples`, with padding and without, compare its outputs with float32: where one is too far
    off, UnavailableError leaves the module unchanged. `cast_weights` keeps the matrices in `dtype`
    only; explanations need them in float32.
    """

    def __init__(
        self,
        module: torch.jit.ScriptModule,
        examples: Sequence[Arguments],
        dtype: torch.dtype,
        *,
        cast_weights: bool,
    ) -> None:
        self._module = module
        self._dtype = dtype
        self._device = next(module.parameters()).device.type
        matrices = [each for each in module.parameters() if cast_weights and each.dim() > 1]
        before = [each.data for each in matrices]
        try:
            self._cast(matrices, examples)
        except (UnavailableError, *GRAPH_ERRORS) as error:
            for matrix, data in zip(matrices, before, strict=True):
                matrix.data = data
            raise UnavailableError(last_line(error)) from error

    def _cast(self, matrices: Sequence[torch.Tensor], examples: Sequence[Arguments]) -> None:
        expected = [self._module(*arguments) for arguments in examples]
        for matrix in matrices:
            matrix.data = matrix.data.to(self._dtype)
        found = difference(expected, [self(*arguments) for arguments in examples])
        most = TOLERANCES[self._dtype]
        if not found <= most:
            raise UnavailableError(
                f"in {self._dtype} it differs by {found:.1e} of the outputs' scale, more than "
                f"{most:.0e}"
            )

    def __call__(self, *arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the module's outputs in float32."""
        with torch.autocast(self._device, dtype=self._dtype):
            outputs = self._module(*arguments)
        return tuple(each.float() if each.is_floating_point() else each for each in outputs)

"""Half precision on a GPU: autocast runs matrix products in 16 bits, sums and norms in float32.

Casting the whole module would not do: a trace keeps the dtype of the masks that the model made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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
    """Runs a module under autocast, with float32 outputs.

    Args:
        module: loaded, in eval mode, on one device.
        examples: arguments to compare outputs on, with padding and without.
        dtype: float16 or bfloat16.
        cast_weights: keep the matrices in `dtype` only; explanations need them in float32.

    Raises:
        UnavailableError: it fails, or an output is too far from float32; the module is unchanged.
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
        try:
            expected = [module(*arguments) for arguments in examples]
            with _matrices_cast(module, dtype if cast_weights else torch.float32):
                found = difference(expected, [self(*arguments) for arguments in examples])
                if not found <= TOLERANCES[dtype]:
                    raise UnavailableError(
                        f"in {dtype} it differs by {found:.1e} of the outputs' scale, more than "
                        f"{TOLERANCES[dtype]:.0e}"
                    )
        except GRAPH_ERRORS as error:
            raise UnavailableError(last_line(error)) from error

    def __call__(self, *arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the module's outputs in float32."""
        with torch.autocast(self._device, dtype=self._dtype):
            outputs = self._module(*arguments)
        return tuple(each.float() if each.is_floating_point() else each for each in outputs)


@contextmanager
def _matrices_cast(module: torch.jit.ScriptModule, dtype: torch.dtype) -> Iterator[None]:
    """Cast the matrices of a module, and undo it if the block fails."""
    matrices = [each for each in module.parameters() if each.dim() > 1]
    before = [each.data for each in matrices]
    try:
        for matrix in matrices:
            matrix.data = matrix.data.to(dtype)
        yield
    except Exception:
        for matrix, data in zip(matrices, before, strict=True):
            matrix.data = data
        raise

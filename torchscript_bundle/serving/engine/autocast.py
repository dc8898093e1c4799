"""A module in half precision on a GPU: matrix products in 16 bits, sums and norms in float32.

torch's autocast chooses by operator, in a ScriptModule as in eager code. Casting the whole module
would not do: a trace keeps the dtype of the masks that the model made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from torchscript_bundle.serving.engine.comparison import difference
from torchscript_bundle.serving.engine.onednn import Arguments

#: Largest difference from float32, of the largest value of an output. Both catch errors, not
#: rounding: 11 significant bits and 8, and a deep model adds up what is lost in each layer.
TOLERANCES = {torch.float16: 5e-2, torch.bfloat16: 1e-1}


class NotHalvedError(Exception):
    """Why a module cannot run in half precision."""


class HalfModule:
    """Runs a module under autocast, with float32 outputs.

    Args:
        module: loaded, in eval mode, on one device.
        examples: arguments to compare outputs on, with padding and without.
        dtype: float16 or bfloat16.
        narrow_weights: keep the matrices in `dtype` only; explanations need them whole.

    Raises:
        NotHalvedError: an output is too far from that in float32; the module is as it was.
    """

    def __init__(
        self,
        module: torch.jit.ScriptModule,
        examples: Sequence[Arguments],
        dtype: torch.dtype,
        *,
        narrow_weights: bool,
    ) -> None:
        self._module = module
        self._dtype = dtype
        self._device = next(module.parameters()).device.type
        expected = [module(*arguments) for arguments in examples]
        with _narrowed(module, dtype if narrow_weights else torch.float32):
            found = difference(expected, [self(*arguments) for arguments in examples])
            if not found <= TOLERANCES[dtype]:
                raise NotHalvedError(
                    f"in {dtype} it differs by {found:.1e} of the outputs' scale, more than "
                    f"{TOLERANCES[dtype]:.0e}"
                )

    def __call__(self, *arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the module gives, in float32 as it does."""
        with torch.autocast(self._device, dtype=self._dtype):
            outputs = self._module(*arguments)
        return tuple(each.float() if each.is_floating_point() else each for each in outputs)


@contextmanager
def _narrowed(module: torch.jit.ScriptModule, dtype: torch.dtype) -> Iterator[None]:
    """Casts the matrices of a module, and casts them back if the block fails."""
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

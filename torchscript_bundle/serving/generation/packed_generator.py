"""A generator whose model runs on packed weights."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from torchscript_bundle.serving.engine.comparison import TOLERANCES, difference
from torchscript_bundle.serving.engine.memory import release_memory
from torchscript_bundle.serving.engine.onednn import Arguments, pack_methods
from torchscript_bundle.serving.engine.torchscript import accept_deprecation

logger = logging.getLogger(__name__)

#: Tokens that are read and written where answers are compared.
LONGEST, NEW = 12, 3
ROWS = 3


class PackedGenerator:
    """Stands in for a `Generator`, as `jit/generation/README.md` describes it.

    Args:
        module: the loaded one; all but `prefill` and `step` is its own.
        prefill, step: what runs instead of its core's methods.
    """

    def __init__(
        self, module: Any, prefill: Callable[..., Any], step: Callable[..., Tensor]
    ) -> None:
        self._module = module
        self._prefill = prefill
        self._step = step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def prefill(
        self, input_ids: Tensor, attention_mask: Tensor, room: int
    ) -> tuple[Tensor, list[Tensor]]:
        """See `Generator.prefill`."""
        self._module.check_texts(attention_mask)
        logits, *kept = self._prefill(input_ids, attention_mask)
        return logits, self._module.reserve(*kept, room)

    def step(self, tokens: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """See `Generator.step`."""
        cache = self._module.extend(tokens, cache)
        return self._step(tokens.unsqueeze(1), cache[0], cache[1], cache[2:]), cache


@torch.inference_mode()
def pack_generator(
    module: torch.jit.ScriptModule, prompt: Sequence[int], precision: str
) -> tuple[Any, str | None]:
    """The generator over packed weights, compared with the one that was saved.

    What was saved loses its own weights then. Where packing cannot be done, it is given back as it
    is, and a warning in the log says why.

    Args:
        module: on the CPU.
        prompt: tokens of a text, which is repeated to several lengths.
        precision: "bfloat16" packs the weights in bfloat16; all else in float32.

    Returns:
        What writes, and why that is the given module; None where it is packed.
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    whole = [_texts(module, prompt, rows, padded=False) for rows in (1, ROWS)]
    packed = pack_methods(
        module.core, {"prefill": whole, "step": [_next(module, *each) for each in whole]}, dtype
    )
    if packed.reason is not None:
        return module, packed.reason
    generator = PackedGenerator(module, packed.methods["prefill"], packed.methods["step"])
    for texts in (*whole, _texts(module, prompt, ROWS, padded=True)):
        found = _apart(module, generator, texts)
        if not found <= TOLERANCES[dtype]:
            reason = f"packed, logits differ by {found:.1e} of their scale"
            logger.warning("the module runs as it was saved: %s", reason)
            return module, reason
    methods = _without_weights(module)
    del module, generator
    release_memory()
    return PackedGenerator(methods, packed.methods["prefill"], packed.methods["step"]), None


def _texts(module: Any, prompt: Sequence[int], rows: int, *, padded: bool) -> tuple[Tensor, Tensor]:
    """Ids and mask, int64 `[rows, length]`; padded, each row is shorter than the one before it."""
    most = module.max_length - NEW if module.start_id < 0 else module.max_source_length
    length = max(1, min(LONGEST, most))
    ids = torch.tensor([[prompt[at % len(prompt)] for at in range(length)]] * rows)
    mask = torch.ones_like(ids)
    for row in range(rows if padded else 0):
        gap = row * length // rows
        gone = slice(0, gap) if module.start_id < 0 else slice(length - gap, None)
        ids[row, gone], mask[row, gone] = module.pad_id, 0
    return ids, mask


def _next(module: Any, ids: Tensor, mask: Tensor) -> Arguments:
    """What the core's step takes after a text."""
    logits, cache = module.prefill(ids, mask, NEW)
    tokens = logits.argmax(1)
    cache = module.extend(tokens, cache)
    return tokens.unsqueeze(1), cache[0], cache[1], cache[2:]


def _apart(module: Any, generator: PackedGenerator, texts: tuple[Tensor, Tensor]) -> float:
    """The largest difference of logits after a text and after more tokens, of their scale.

    Keys and values in places of padding may differ: nothing looks at them.
    """
    expected = list(_logits(module, texts, None))
    tokens = [logits.argmax(1) for logits in expected]
    return difference(expected, list(_logits(generator, texts, tokens)))


def _logits(
    generator: Any, texts: tuple[Tensor, Tensor], tokens: Sequence[Tensor] | None
) -> Iterator[Tensor]:
    """Logits of each new token; those that are read are given, or the best ones."""
    logits, cache = generator.prefill(*texts, NEW)
    yield logits
    for at in range(NEW):
        chosen = logits.argmax(1) if tokens is None else tokens[at]
        logits, cache = generator.step(chosen, cache)
        yield logits


def _without_weights(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """The same methods with nothing to run the core's on; the given module is left without, too.

    A copy by way of a file: what was compiled beside a module, its weights as constants, lives as
    long as the module does.
    """
    nothing = torch.empty(0)
    parts: Iterator[Any] = module.modules()
    for part in parts:
        for name, _ in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            part._c.setattr(name, nothing)
    file = io.BytesIO()
    with accept_deprecation():
        torch.jit.save(module, file)
        file.seek(0)
        return torch.jit.load(file).eval()  # type: ignore[no-any-return]

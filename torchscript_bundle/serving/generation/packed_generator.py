"""A generator whose model runs on packed weights, compared with the saved one."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from torchscript_bundle.serving.engine.comparison import TOLERANCES, difference
from torchscript_bundle.serving.engine.memory import release_memory
from torchscript_bundle.serving.engine.onednn import Arguments, pack
from torchscript_bundle.serving.engine.torchscript import accept_deprecation

logger = logging.getLogger(__name__)

#: Tokens that are read and generated in the comparison, and its rows.
LONGEST, NEW = 12, 3
ROWS = 3


class PackedGenerator:
    """A `Generator` (`jit/generation/README.md`) over other core methods."""

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
        """Run `Generator.prefill`."""
        self._module.check_texts(attention_mask)
        logits, *kept = self._prefill(input_ids, attention_mask)
        return logits, self._module.reserve(*kept, room)

    def step(self, tokens: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Run `Generator.step`."""
        cache = self._module.extend(tokens, cache)
        return self._step(tokens.unsqueeze(1), cache[0], cache[1], cache[2:]), cache


@torch.inference_mode()
def pack_generator(
    module: torch.jit.ScriptModule, prompt: Sequence[int], precision: str
) -> tuple[Any, str | None]:
    """Return the generator over packed weights, or the given one and the reason.

    The module, on the CPU, loses its weights when they are packed. The comparison repeats the
    prompt's token ids to several lengths. "bfloat16" packs in bfloat16, any other in float32.
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    whole = [_texts(module, prompt, rows, padded=False) for rows in (1, ROWS)]
    packed = pack(
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
    """Return ids and mask, int64 `[rows, length]`; padded, each row is shorter than the last."""
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
    logits, cache = module.prefill(ids, mask, NEW)
    tokens = logits.argmax(1)
    cache = module.extend(tokens, cache)
    return tokens.unsqueeze(1), cache[0], cache[1], cache[2:]


def _apart(module: Any, generator: PackedGenerator, texts: tuple[Tensor, Tensor]) -> float:
    """Return the largest difference of logits, relative to their scale, apart from padding."""
    expected = list(_logits(module, texts, None))
    tokens = [logits.argmax(1) for logits in expected]
    return difference(expected, list(_logits(generator, texts, tokens)))


def _logits(
    generator: Any, texts: tuple[Tensor, Tensor], tokens: Sequence[Tensor] | None
) -> Iterator[Tensor]:
    """Yield the logits of each new token, after the given tokens or the best ones."""
    logits, cache = generator.prefill(*texts, NEW)
    yield logits
    for at in range(NEW):
        chosen = logits.argmax(1) if tokens is None else tokens[at]
        logits, cache = generator.step(chosen, cache)
        yield logits


def _without_weights(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Remove the weights of a module and return a copy, made by saving and loading.

    Graphs compiled for the module hold its weights as constants for as long as it lives.
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

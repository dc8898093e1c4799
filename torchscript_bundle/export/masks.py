"""Make transformers build attention masks that a trace can follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS


@contextmanager
def masks_by_broadcasting() -> Iterator[None]:
    """Build masks by broadcasting indices, also those with a function of the model's own.

    For an `or_mask_function` or `and_mask_function` (Gemma 3, T5Gemma 2) transformers runs
    `torch.vmap`, which hands out sizes as plain numbers: a trace keeps those of its example. All
    other masks are broadcast anyway. A function that branches on an index in Python would raise
    here, and under vmap too.
    """
    before = {name: ALL_MASK_ATTENTION_FUNCTIONS[name] for name in ("eager", "sdpa")}
    try:
        for name, make in before.items():
            ALL_MASK_ATTENTION_FUNCTIONS[name] = _without_vmap(make)
        yield
    finally:
        for name, make in before.items():
            ALL_MASK_ATTENTION_FUNCTIONS[name] = make


def _without_vmap(make: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return make(*args, **{**kwargs, "use_vmap": False})

    return call

"""The chunked scan of Mamba 2 (https://arxiv.org/abs/2405.21060), section 6.

transformers' `mamba2_chunk_scan` pads the last chunk, and decides in Python whether to cut the
padding off again: a trace of whole chunks never cuts, and its rows are too long.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch

from torchscript_bundle.export.scripted.functions import replace_function


def always_cut(scan: Callable[..., Any]) -> Callable[..., Any]:
    """Return the scan without its kernel, cutting the padding off in any case."""
    chunk_scan = inspect.unwrap(scan)

    def cut(
        hidden_states: torch.Tensor, *args: Any, return_final_states: bool = False, **kwargs: Any
    ) -> Any:
        # [batch, length, heads, head size] in and out; [batch, heads, head size, state].
        output, state = chunk_scan(hidden_states, *args, return_final_states=True, **kwargs)
        output = output[:, : hidden_states.shape[1]]
        return (output, state) if return_final_states else output

    return cut


#: Changes a model in place.
adapt = replace_function("mamba2_chunk_scan", always_cut)

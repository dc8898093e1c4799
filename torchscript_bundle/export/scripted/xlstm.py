"""The mLSTM of xLSTM (https://arxiv.org/abs/2405.04517) in chunks, with its loop over them.

transformers loops over whole chunks and then over the remaining tokens, both in Python
(`wrap_chunkwise_arbitrary_sequence_length`): a trace unrolls the steps of its example. Here the
last chunk is padded with tokens that leave the state as it is: the same sums, rounded in another
order.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn.functional import pad

from torchscript_bundle.export.scripted.functions import modules_with, scripted, with_globals


def adapt(model: torch.nn.Module) -> None:
    """Change a model in place."""
    for backend in modules_with(model, "_inference_fn"):
        config = backend.config
        kernel = with_globals(backend.chunkwise_kernel_fn, mlstm_chunkwise_recurrent_fw_C=states)
        backend._inference_fn = partial(
            mlstm, kernel=kernel, chunk_size=config.chunk_size, eps=config.eps
        )


def mlstm(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    igate: torch.Tensor,
    fgate: torch.Tensor,
    c_initial: torch.Tensor | None = None,
    n_initial: torch.Tensor | None = None,
    m_initial: torch.Tensor | None = None,
    *,
    kernel: Callable[..., Any],
    chunk_size: int,
    eps: float,
) -> Any:
    """`wrap_chunkwise_arbitrary_sequence_length`; initial states are zero if None.

    Args:
        query, key: `[batch, heads, length, key size]`.
        value: `[batch, heads, length, value size]`.
        igate: input gates, before the exponential, `[batch, heads, length]`.
        fgate: forget gates, before the sigmoid, shaped as `igate`.
        c_initial: memory, `[batch, heads, key size, value size]`.
        n_initial: normalizer, `[batch, heads, key size]`.
        m_initial: largest exponent, `[batch, heads, 1]`.
        kernel: `mlstm_chunkwise_native_autograd`, calling `states`.
    """
    length = key.shape[2]
    missing = (chunk_size - length % chunk_size) % chunk_size
    output, state = kernel(
        query=pad(query, (0, 0, 0, missing)),
        key=pad(key, (0, 0, 0, missing)),
        value=pad(value, (0, 0, 0, missing)),
        igate=pad(igate, (0, missing), value=-torch.inf),  # adds nothing
        fgate=pad(fgate, (0, missing), value=torch.inf),  # forgets nothing
        c_initial=c_initial,
        n_initial=n_initial,
        m_initial=m_initial,
        chunk_size=chunk_size,
        eps=eps,
        return_last_states=True,
    )
    return output[:, :, :length], state


def states(
    matK: torch.Tensor,
    matV: torch.Tensor,
    vecB: torch.Tensor,
    vecI: torch.Tensor,
    matC_initial: torch.Tensor | None = None,
    vecN_initial: torch.Tensor | None = None,
    scaMinter_initial: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`mlstm_chunkwise_recurrent_fw_C`: the states before each chunk and after the last.

    Args:
        matK, matV: keys, values, `[batch, heads, chunks * chunk, key size or value size]`.
        vecB: log forget gates, summed from each chunk's start, `[batch, heads, chunks, chunk]`.
        vecI: input gates, before the exponential, shaped as `vecB`.

    Return memories `[batch, heads, (chunks + 1) * key size, value size]`, normalizers
    `[batch, heads, (chunks + 1) * key size]`, largest exponents `[batch, heads, chunks + 1]`.
    """
    keys = matK.unflatten(2, vecB.shape[2:])
    values = matV.unflatten(2, vecB.shape[2:])
    memory, normalizer, largest = matC_initial, vecN_initial, scaMinter_initial
    if memory is None or normalizer is None or largest is None:
        normalizer = torch.zeros_like(keys[:, :, 0, 0])
        memory = normalizer[..., None] * torch.zeros_like(values[:, :, 0, :1])
        largest = torch.zeros_like(vecB[:, :, 0, :1])
    total = vecB[..., -1]
    gates = vecB[..., -1, None] - vecB + vecI
    return scan(keys, values, total, gates, memory, normalizer, largest.squeeze(-1))


@scripted
def scan(
    keys: torch.Tensor,
    values: torch.Tensor,
    total: torch.Tensor,
    gates: torch.Tensor,
    memory: torch.Tensor,
    normalizer: torch.Tensor,
    largest: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Carry memory and normalizer, divided by the exponential of `largest`, between chunks.

    The results are those of `states`.

    Args:
        keys, values: `[batch, heads, chunks, chunk, key size or value size]`.
        total: log decay over a chunk, `[batch, heads, chunks]`.
        gates: log weight of each token at its chunk's end, `[batch, heads, chunks, chunk]`.
        memory: `[batch, heads, key size, value size]`.
        normalizer: `[batch, heads, key size]`.
        largest: `[batch, heads]`.
    """
    memories, normalizers, exponents = [memory], [normalizer], [largest]
    highest = gates.amax(-1)
    for index in range(keys.size(2)):
        after = torch.max(total[:, :, index] + largest, highest[:, :, index])
        added = keys[:, :, index] * torch.exp(gates[:, :, index] - after[..., None])[..., None]
        added = added.transpose(-2, -1)
        kept = torch.exp(total[:, :, index] + largest - after)[..., None]
        memory = kept[..., None] * memory + added @ values[:, :, index]
        normalizer = kept * normalizer + added.sum(-1)
        largest = after
        memories.append(memory)
        normalizers.append(normalizer)
        exponents.append(largest)
    return torch.cat(memories, 2), torch.cat(normalizers, 2), torch.stack(exponents, 2)

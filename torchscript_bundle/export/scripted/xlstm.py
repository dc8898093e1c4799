"""The mLSTM of xLSTM (https://arxiv.org/abs/2405.04517) in chunks, with its loop over them.

transformers runs whole chunks in a loop over chunks and the tokens left over in a loop over tokens
(`wrap_chunkwise_arbitrary_sequence_length`), both in Python, so that a trace holds the steps of its
example, one after the other. Here the last chunk is filled up, with tokens that leave the state as
it is, and no tokens are left over: the same sums, rounded in another order.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn.functional import pad

from torchscript_bundle.export.scripted.functions import modules_with, scripted, with_globals


def adapt(model: torch.nn.Module) -> None:
    """Changes a model in place.

    Raises:
        LookupError: it has no such layer.
    """
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
    """`wrap_chunkwise_arbitrary_sequence_length`.

    Args:
        query: *Shape:* `[batch, heads, length, key size]`.
        key: *Shape:* that of `query`.
        value: *Shape:* `[batch, heads, length, value size]`.
        igate: input gates, before the exponential. *Shape:* `[batch, heads, length]`.
        fgate: forget gates, before the sigmoid. *Shape:* that of `igate`.
        c_initial: first memory; zero if None. *Shape:* `[batch, heads, key size, value size]`.
        n_initial: first normalizer; zero if None. *Shape:* `[batch, heads, key size]`.
        m_initial: first largest exponent; zero if None. *Shape:* `[batch, heads, 1]`.
        kernel: `mlstm_chunkwise_native_autograd`, with `states` in it.
        chunk_size: tokens in a chunk.
        eps: added to denominators.

    Returns:
        *Shape:* that of `value`; and memory, normalizer and largest exponent after the last token.
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
    """`mlstm_chunkwise_recurrent_fw_C`: the states before each chunk, and after the last.

    Args:
        matK: keys. *Shape:* `[batch, heads, chunks * chunk, key size]`.
        matV: values. *Shape:* `[batch, heads, chunks * chunk, value size]`.
        vecB: logarithm of what the forget gates keep, summed from each chunk's start.
            *Shape:* `[batch, heads, chunks, chunk]`.
        vecI: input gates, before the exponential. *Shape:* that of `vecB`.
        matC_initial: as `c_initial` of `mlstm`.
        vecN_initial: as `n_initial`.
        scaMinter_initial: as `m_initial`.
        _: sizes, which the tensors tell too, and a scale that is not used.

    Returns:
        Memories `[batch, heads, (chunks + 1) * key size, value size]`, normalizers
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
    """Runs memory and normalizer from chunk to chunk, divided by the exponential of `largest`.

    Args:
        keys: *Shape:* `[batch, heads, chunks, chunk, key size]`.
        values: *Shape:* `[batch, heads, chunks, chunk, value size]`.
        total: logarithm of what a chunk keeps of the state before it.
            *Shape:* `[batch, heads, chunks]`.
        gates: logarithm of what each token adds to the state after its chunk.
            *Shape:* `[batch, heads, chunks, chunk]`.
        memory: *Shape:* `[batch, heads, key size, value size]`.
        normalizer: *Shape:* `[batch, heads, key size]`.
        largest: *Shape:* `[batch, heads]`.

    Returns:
        As `states`.
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

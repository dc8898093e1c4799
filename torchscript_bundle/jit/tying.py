"""Weights that several names share."""

from __future__ import annotations

import copy

import torch


def untie(module: torch.nn.Module) -> tuple[tuple[str, ...], ...]:
    """Gives every name in the tree a tensor of its own, with the same values.

    A trace needs this no more: it keeps a tie between two modules, and its file holds the weight
    once. What changes one of the two, such as quantising or packing it, still does, and so does a
    trace of one module with two names for a tensor, which torch refuses.

    A module that stands at several places in the tree stays one, with the weights it has: ALBERT's
    repeated layer is no tie. Only one tensor under two names is, not two on the same memory. Where
    a model ties its weights itself (transformers' `tie_weights`), a later call ties them again.

    Args:
        module: changed in place; its outputs stay the same.

    Returns:
        For each shared parameter or buffer, its names: the first kept the tensor, the others have
        copies. Empty if nothing is shared.
    """
    names: dict[torch.Tensor, list[str]] = {}
    for prefix, owner in module.named_modules():
        for slots in (owner._parameters, owner._buffers):
            for name, tensor in slots.items():
                if tensor is None:
                    continue
                if tensor in names:
                    slots[name] = copy.deepcopy(tensor)
                names.setdefault(tensor, []).append(f"{prefix}.{name}" if prefix else name)
    return tuple(tuple(shared) for shared in names.values() if len(shared) > 1)

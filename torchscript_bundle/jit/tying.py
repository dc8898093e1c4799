"""Tied weights: one tensor under several names."""

from __future__ import annotations

import copy

import torch


def untie(module: torch.nn.Module) -> tuple[tuple[str, ...], ...]:
    """Give every name in the tree a tensor of its own, in place; return the names of each tie.

    The first name of a tie keeps the tensor, the others get copies. A trace keeps ties between
    modules, and its file holds the weight once. Untie before one of the names is changed, such as
    quantised, and for a module with two names for one tensor, which torch does not trace.

    A module at several places, such as ALBERT's repeated layer, is no tie, nor are two tensors on
    the same memory. transformers' `tie_weights` ties again.
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

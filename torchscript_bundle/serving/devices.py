"""A worker's device, and device constants in a trace.

A trace keeps the device of every tensor that the model made while it ran (masks, positions) as a
constant, and `torch.jit.load(map_location=...)` moves weights only. Without this, a module that was
traced on the CPU mixes devices on a GPU, and one traced on `cuda:0` fails on `cuda:1`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch


def make_current(device: torch.device) -> None:
    """Has page-locked memory, streams and whatever names no device belong to a worker's GPU.

    Else each worker would hold some memory of the first GPU too.
    """
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def retarget(module: torch.jit.ScriptModule, device: torch.device) -> None:
    """Points every device constant of a loaded module, children included, at `device`.

    To be called before the first run, while nothing is compiled.
    """
    for node in device_constants(module):
        node.s_("value", str(device))


def device_constants(module: torch.jit.ScriptModule) -> Iterator[torch._C.Node]:
    """The constants of type Device in the graphs of a module and its children."""
    for child in module.modules():
        compiled = getattr(child, "_c", None)
        if compiled is None:
            continue
        for name in compiled._method_names():
            graph = compiled._get_method(name).graph
            for node in graph.findAllNodes("prim::Constant"):
                if node.output().type().kind() == "DeviceObjType":
                    yield node

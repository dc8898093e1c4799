"""A worker's device, and the device constants of a trace.

A trace keeps the device of every tensor that the model made (masks, positions) as a constant, and
`torch.jit.load(map_location=...)` moves weights only. Unless constants are moved too, a module
traced on the CPU mixes devices on a GPU, and one traced on `cuda:0` fails on `cuda:1`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from torchscript_bundle.serving.errors import ArtifactError


def choose_device(gpu_id: int | None, *, cuda_available: bool) -> torch.device:
    """Return the assigned GPU, else the CPU; ArtifactError is better than a silently slow CPU."""
    if gpu_id is None:
        return torch.device("cpu")
    if not cuda_available:
        raise ArtifactError(
            f"TorchServe assigned GPU {gpu_id} but this torch has no CUDA; install a CUDA build of "
            "torch, or set number_of_gpu=0 in config.properties"
        )
    return torch.device("cuda", gpu_id)


def make_current(device: torch.device) -> None:
    """Make a worker's GPU the current one; else it would also hold memory of the first GPU."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def retarget(module: torch.jit.ScriptModule, device: torch.device) -> None:
    """Point all device constants of a loaded module at `device`, before anything is compiled."""
    for node in device_constants(module):
        node.s_("value", str(device))


def device_constants(module: torch.jit.ScriptModule) -> Iterator[torch._C.Node]:
    """Yield the constants of type Device in the graphs of a module and its children."""
    for child in module.modules():
        compiled = getattr(child, "_c", None)
        if compiled is None:
            continue
        for name in compiled._method_names():
            graph = compiled._get_method(name).graph
            for node in graph.findAllNodes("prim::Constant"):
                if node.output().type().kind() == "DeviceObjType":
                    yield node

"""Hold the packed weights of a model in memory once for all its workers.

The first worker writes them into a file, and all map it. Each worker packs them itself and maps
only equal bytes, so it does not matter who wrote the file.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import mmap
import os
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from torchscript_bundle.serving.engine.onednn.edited_graph import LARGE, FunctionWithWeights

logger = logging.getLogger(__name__)

#: Tensors begin at pages of memory, which is alignment enough for any operator.
PAGE = 4096
Key = tuple[int, bytes]
STEALING = "alloc_tensor_by_stealing_from_void_ptr"


@dataclass(frozen=True)
class Block:
    """The memory of a tensor, dense and contiguous or in a layout of oneDNN.

    `size` is in bytes; `layout` is oneDNN's serialised description, empty for a dense tensor.
    """

    tensor: torch.Tensor
    address: int
    size: int
    layout: bytes

    @staticmethod
    def of(tensor: torch.Tensor) -> Block:
        """Return the memory of one tensor."""
        if not tensor.is_mkldnn:
            return Block(tensor, tensor.data_ptr(), tensor.numel() * tensor.element_size(), b"")
        operators = torch.ops.mkldnn
        layout = bytes(operators._get_mkldnn_serialized_md(tensor).tolist())
        return Block(tensor, operators.data_ptr(tensor), operators._nbytes(tensor), layout)

    @property
    def key(self) -> Key:
        """Equal for tensor objects over the same memory."""
        return self.address, self.description

    @property
    def description(self) -> bytes:
        """All but the data."""
        return repr((self.tensor.dtype, self.tensor.shape, self.size, self.layout)).encode()


def share_weights(methods: Iterable[object], folder: Path) -> None:
    """Let packed methods read weights from a mapped file; where that fails they keep their own.

    The file stays mapped as long as the process lives. Each model needs a folder of its own.
    """
    functions = [method for method in methods if isinstance(method, FunctionWithWeights)]
    try:
        own = [[Block.of(tensor) for tensor in each.weights] for each in functions]
        large = {each.key: each for blocks in own for each in blocks if each.size >= LARGE}
        if not large:
            return
        mapped = _map(large, folder)
    except (OSError, AttributeError, RuntimeError, ValueError) as error:
        logger.warning("weights are not shared with other workers: %s", error)
        return
    for function, blocks in zip(functions, own, strict=True):
        function.weights = [mapped.get(each.key, each.tensor) for each in blocks]
    size = sum(block.size for block in large.values()) / 1e6
    logger.info("%.0f MB of weights are shared with other workers", size)


def _map(blocks: Mapping[Key, Block], folder: Path) -> dict[Key, torch.Tensor]:
    """Return the same tensors over the memory of a file; write the file if there is none."""
    offsets, end = {}, 0
    for key, block in blocks.items():
        offsets[key] = end
        end += -(-block.size // PAGE) * PAGE
    descriptions = b"".join(block.description for block in blocks.values())
    path = folder / f"shared_weights_{hashlib.sha256(descriptions).hexdigest()[:16]}.bin"
    if not path.exists():
        _write(path, blocks, offsets, end)
    base = _open(path, end)
    compare = ctypes.CDLL(None).memcmp
    compare.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    for key, block in blocks.items():
        if compare(base.data_ptr() + offsets[key], block.address, block.size):
            raise ValueError(f"{path.name} holds others")
    return {key: _rebuild(block, base, offsets[key]) for key, block in blocks.items()}


def _write(path: Path, blocks: Mapping[Key, Block], offsets: Mapping[Key, int], end: int) -> None:
    """Write the file whole, or not at all; another worker may be doing the same."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".shared_weights_") as file:
        for key, block in blocks.items():
            file.seek(offsets[key])
            file.write((ctypes.c_ubyte * block.size).from_address(block.address))
        file.truncate(end)
        file.flush()
        try:
            os.link(file.name, path)
        except FileExistsError:
            return  # the other worker was first


def _open(path: Path, size: int) -> torch.Tensor:
    """Return the file's bytes, uint8 `[size]`, read-only."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != size:
            raise ValueError(f"{path.name} has another size")
        content = mmap.mmap(file.fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
        return torch.frombuffer(content, dtype=torch.uint8)


def _rebuild(block: Block, base: torch.Tensor, offset: int) -> torch.Tensor:
    """Return a tensor like the block's over the bytes of the file."""
    if not block.layout:
        data = base[offset : offset + block.size].view(block.tensor.dtype)
        return data.view(block.tensor.shape)
    rebuilt = _opaque(block, base.data_ptr() + offset)
    rebuilt.keeps = base  # type: ignore[attr-defined]
    if Block.of(rebuilt).description != block.description:
        raise ValueError("oneDNN's layout could not be made again")
    return rebuilt


def _opaque(block: Block, address: int) -> torch.Tensor:
    """Make a tensor in oneDNN's layout as torch/csrc/inductor/aoti_torch/c/shim.h describes."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    numbers = ctypes.c_int64 * (dimensions := block.tensor.dim())
    handle = ctypes.c_void_p()
    dtype = getattr(library, f"aoti_torch_dtype_{str(block.tensor.dtype).removeprefix('torch.')}")
    failed = library.aoti_torch_create_tensor_from_blob_v2(
        ctypes.c_void_p(address),
        ctypes.c_int64(dimensions),
        numbers(*block.tensor.shape),
        numbers(*[1] * dimensions),
        ctypes.c_int64(0),
        ctypes.c_int32(dtype()),
        ctypes.c_int32(library.aoti_torch_device_type_cpu()),
        ctypes.c_int32(0),
        ctypes.byref(handle),
        ctypes.c_int32(library.aoti_torch_layout__mkldnn()),
        block.layout,
        ctypes.c_int64(len(block.layout)),
    )
    if failed:
        raise RuntimeError("torch makes no tensor of oneDNN's layout over given memory")
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype = ctypes.py_object
    capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    tensor: torch.Tensor = getattr(torch._C._aoti, STEALING)(capsule(handle, None, None))
    return tensor

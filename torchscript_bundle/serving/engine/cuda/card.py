"""The few things that only a GPU can do; all else here runs, and is tested, on any device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from torchscript_bundle.serving.engine.devices import make_current

#: Runs on the side stream before a capture: libraries make their handles and workspaces in the
#: first; the others must not wait for the GPU.
WARM_UP_RUNS = 3


class NotCapturedError(Exception):
    """Why a computation cannot be a CUDA graph. The message is for the log."""


class Card(Protocol):
    """A GPU and its memory."""

    @property
    def device(self) -> torch.device:
        """Where tensors are made."""

    def host(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Memory of the host, not filled, that the card copies from and to by itself."""

    def wait(self) -> None:
        """Returns once all that was asked for is done."""

    def alive(self) -> bool:
        """Whether the card still computes; after some errors it never does in this process."""

    def free(self) -> int:
        """Bytes that can still be had; caches are given back first."""

    def peak(self, run: Callable[[], object]) -> int:
        """Most bytes that a call held at a time, beyond what was held before."""

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        """What repeats a computation: its every kernel, at the same addresses.

        Args:
            body: computes from and into tensors that stay.

        Raises:
            NotCapturedError: it cannot be repeated without Python.
        """


class NvidiaCard:
    """See `Card`. Source: https://docs.pytorch.org/docs/stable/notes/cuda.html.

    Args:
        device: a CUDA device; it becomes the process's current one.
    """

    def __init__(self, device: torch.device) -> None:
        make_current(device)
        self._device = device
        # One stream and one pool for all captures, as sharing memory asks for. No two graphs run
        # at once, and none needs what another left, so that they may share it in any order.
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    @property
    def device(self) -> torch.device:
        """See `Card`."""
        return self._device

    def host(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """See `Card`. torch reuses such memory only once copies from and to it are done."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)

    def wait(self) -> None:
        """See `Card`."""
        torch.cuda.current_stream(self._device).synchronize()

    def alive(self) -> bool:
        """See `Card`."""
        try:
            torch.cuda.synchronize(self._device)
        except RuntimeError:
            return False
        return True

    def free(self) -> int:
        """See `Card`."""
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self._device)[0]

    def peak(self, run: Callable[[], object]) -> int:
        """See `Card`."""
        torch.cuda.synchronize(self._device)
        held = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        run()
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device) - held

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        """See `Card`."""
        graph = torch.cuda.CUDAGraph()
        try:
            # A capture that fails leaves its stream the current one; leaving this block ends that.
            with torch.cuda.stream(torch.cuda.current_stream(self._device)):
                self._warm_up(body)
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                    body()
        except RuntimeError as error:
            raise NotCapturedError(said(error)) from None
        return graph.replay

    def _warm_up(self, body: Callable[[], None]) -> None:
        """Runs on the side stream, and raises RuntimeError for what waits for the GPU.

        To find that out before a capture is begun is safer than to have a capture fail.
        """
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        before = torch.cuda.get_sync_debug_mode()
        with torch.cuda.stream(self._stream):
            body()
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "Synchronization debug mode")
                    torch.cuda.set_sync_debug_mode("error")
                for _ in range(WARM_UP_RUNS - 1):
                    body()
            finally:
                torch.cuda.set_sync_debug_mode(before)
        current.wait_stream(self._stream)


def said(error: RuntimeError) -> str:
    """Why a capture failed, in a line.

    TorchScript puts its traceback before what the operator said, and CUDA its advice after. Where
    the end of the capture fails as well, the first error says why.
    """
    first = error.__context__ if isinstance(error.__context__, RuntimeError) else error
    return str(first).rpartition("RuntimeError: ")[2].strip().partition("\n")[0]

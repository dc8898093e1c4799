"""Everything that only a GPU can do; the rest of this folder runs, and is tested, on any device.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch

from torchscript_bundle.serving.engine.comparison import UnavailableError
from torchscript_bundle.serving.engine.devices import make_current

#: Runs on the side stream before a capture: in the first, libraries make their handles and
#: workspaces; the others must not wait for the GPU.
WARM_UP_RUNS = 3


class Card:
    """A GPU and its memory; it becomes the process's current one."""

    def __init__(self, device: torch.device) -> None:
        make_current(device)
        self.device = device
        # One stream and one pool for all captures let graphs share memory. They may be replayed in
        # any order: no two run at once, and none reads the results of another.
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def host(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Allocate page-locked host memory; torch reuses it only once copies from and to it end."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)

    def wait(self) -> None:
        """Wait for all queued work."""
        torch.cuda.current_stream(self.device).synchronize()

    def alive(self) -> bool:
        """Return whether the card computes; after some errors it never does in this process."""
        try:
            torch.cuda.synchronize(self.device)
        except RuntimeError:
            return False
        return True

    def free(self) -> int:
        """Empty the caches and return the free bytes."""
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self.device)[0]

    def peak(self, run: Callable[[], object]) -> int:
        """Return the most bytes that a call held at a time, beyond those held before."""
        torch.cuda.synchronize(self.device)
        held = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        run()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - held

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        """Return a function that replays all kernels of `body`, at the same addresses.

        `body` computes from and into tensors that stay. UnavailableError: a replay needs Python.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            # A failed capture leaves its stream the current one; this block restores the stream.
            with torch.cuda.stream(torch.cuda.current_stream(self.device)):
                self._warm_up(body)
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                    body()
        except RuntimeError as error:
            raise UnavailableError(said(error)) from None
        return graph.replay

    def _warm_up(self, body: Callable[[], None]) -> None:
        """Run on the side stream, where waiting for the GPU fails more safely than in a capture."""
        current = torch.cuda.current_stream(self.device)
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
    """Return the reason of a failed capture in one line.

    TorchScript puts its traceback before the operator's message, and CUDA its advice after. Where
    the end of the capture fails as well, the first error has the reason.
    """
    first = error.__context__ if isinstance(error.__context__, RuntimeError) else error
    return str(first).rpartition("RuntimeError: ")[2].strip().partition("\n")[0]

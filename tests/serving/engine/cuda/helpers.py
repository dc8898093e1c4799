"""A card without a GPU: the same buffers and copies; what is repeated is the Python that was given.

So these tests show that batches, buckets, buffers and what is read of them are right, and what is
done where a card refuses; not that a GPU records what it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tests.serving.helpers import CPU
from torchscript_bundle.serving.engine.comparison import UnavailableError

GIGABYTE = 2**30


class StandIn:
    """Stands in for a `Card`.

    Args:
        memory: bytes that are free.
        graph_bytes: what each graph takes of them.
        captures: after so many, captures fail.
        lives: whether it still computes.
    """

    def __init__(
        self,
        device: torch.device = CPU,
        *,
        memory: int = GIGABYTE,
        graph_bytes: int = 0,
        captures: int = 1_000_000,
        lives: bool = True,
    ) -> None:
        self.device = device
        self.memory = memory
        self.graph_bytes = graph_bytes
        self.left = captures
        self.lives = lives
        self.waits = 0
        self.replays = 0
        self.hosts: list[tuple[tuple[int, ...], torch.dtype]] = []

    def host(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        self.hosts.append((tuple(shape), dtype))
        return torch.full(tuple(shape), 77, dtype=dtype)

    def wait(self) -> None:
        self.waits += 1

    def alive(self) -> bool:
        return self.lives

    def free(self) -> int:
        return self.memory

    def peak(self, run: Callable[[], object]) -> int:
        run()
        return 512 * 1024

    def capture(self, body: Callable[[], None]) -> Callable[[], None]:
        if not self.left:
            raise UnavailableError("called a synchronizing CUDA operation")
        self.left -= 1
        self.memory -= self.graph_bytes

        def replay() -> None:
            self.replays += 1
            body()

        return replay

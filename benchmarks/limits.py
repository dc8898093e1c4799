"""The most that this machine's matrix products reach: what a forward pass is compared with.

`python benchmarks/limits.py --threads 2`
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

#: Rows, inputs and outputs of the product: tokens through BERT-base's first feed-forward layer.
ROWS, INPUTS, OUTPUTS = 256, 768, 3072
SECONDS = 3.0


def fastest(product: Callable[[], object], clock: Callable[[], float]) -> float:
    """Billions of operations a second (a multiplication and an addition are two), at best."""
    best = float("inf")
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        started = clock()
        for _ in range(10):
            product()
        best = min(best, (clock() - started) / 10)
    return 2 * ROWS * INPUTS * OUTPUTS / best / 1e9


def limits(clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Operations a second of oneDNN's products on packed weights, with bias and GELU, by precision.

    Args:
        clock: seconds. `time.process_time` counts the time of all threads.
    """
    import torch

    weight, bias = torch.randn(OUTPUTS, INPUTS), torch.randn(OUTPUTS)
    ops = torch.ops
    products: dict[str, Callable[[], object]] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        packed = ops.mkldnn._reorder_linear_weight(weight.to(dtype), ROWS)
        inputs = torch.randn(ROWS, INPUTS).to(dtype), packed, bias.to(dtype)
        products[name] = partial(ops.mkldnn._linear_pointwise, *inputs, "gelu", [], "none")
    scales, zeros = torch.full((OUTPUTS,), 0.01), torch.zeros(OUTPUTS, dtype=torch.int64)
    numbers = torch.randint(0, 255, (ROWS, INPUTS), dtype=torch.uint8)
    packed8 = ops.onednn.qlinear_prepack(torch.randint(-127, 127, weight.shape).char(), None)
    layer: tuple[Any, ...] = (
        packed8,
        scales,
        zeros,
        bias,
        0.02,
        10,
        torch.uint8,
        "gelu",
        [],
        "none",
    )
    products["int8"] = partial(ops.onednn.qlinear_pointwise, numbers, 0.02, 128, *layer)
    with torch.inference_mode():
        return {name: fastest(product, clock) for name, product in products.items()}


def main() -> None:
    """Prints the limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="with one thread")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    import torch

    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    for name, speed in limits(clock).items():
        print(f"{name:10} {speed:6.0f} GOP/s")


if __name__ == "__main__":
    main()

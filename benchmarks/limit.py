"""What this machine's matrix products can do at most, in GFLOP/s (int8: GOP/s).

`python -m benchmarks.limit` prints it as JSON. The products are oneDNN's, with packed weights and
their bias inside, of the shape that a BERT-base layer has for 256 tokens: the operators that
workers use, with nothing between them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from torchscript_bundle.server import ROOT
from torchscript_bundle.server.machine import usable_cores

ROWS, INPUTS, OUTPUTS = 256, 768, 3072
OPERATIONS = 2 * ROWS * INPUTS * OUTPUTS
CALLS = 100
WARM_UP_CALLS = 10


def measure_limits() -> dict[str, float]:
    """Precision -> GFLOP/s, in a process of its own with all cores."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.limit"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(usable_cores())}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return {name: float(rate) for name, rate in json.loads(done.stdout).items()}


def products() -> dict[str, Callable[[], object]]:
    """Precision -> one product; without those that this torch or processor has not."""
    import torch

    x, weight, bias = torch.randn(ROWS, INPUTS), torch.randn(OUTPUTS, INPUTS), torch.randn(OUTPUTS)

    def dense(dtype: torch.dtype) -> Callable[[], object]:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype), ROWS)
        arguments: Any = (x.to(dtype), packed, bias.to(dtype), "none", [], "")
        return lambda: torch.ops.mkldnn._linear_pointwise(*arguments)

    def quantised() -> Callable[[], object]:
        steps = torch.randint(0, 256, (ROWS, INPUTS), dtype=torch.uint8)
        small = torch.randint(-127, 128, (OUTPUTS, INPUTS), dtype=torch.int8)
        packed = torch.ops.onednn.qlinear_prepack(small, [ROWS, INPUTS])
        scales, zeros = torch.full((OUTPUTS,), 0.01), torch.zeros(OUTPUTS, dtype=torch.int64)
        into: Any = (0.5, 128, torch.uint8, "none", [], "")
        arguments: Any = (steps, 0.02, 128, packed, scales, zeros, bias, *into)
        return lambda: torch.ops.onednn.qlinear_pointwise(*arguments)

    makers = {
        "float32": lambda: dense(torch.float32),
        "bfloat16": lambda: dense(torch.bfloat16),
        "int8": quantised,
    }
    found: dict[str, Callable[[], object]] = {}
    for name, make in makers.items():
        try:
            product = make()
            product()
        except (RuntimeError, AttributeError) as error:
            print(f"no product in {name}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        found[name] = product
    return found


def rate(product: Callable[[], object]) -> float:
    """GFLOP/s of the median call."""
    took = []
    for number in range(WARM_UP_CALLS + CALLS):
        started = time.perf_counter()
        product()
        if number >= WARM_UP_CALLS:
            took.append(time.perf_counter() - started)
    return OPERATIONS / statistics.median(took) / 1e9


def main() -> None:
    """Prints the limits."""
    import torch

    with torch.inference_mode():
        print(json.dumps({name: rate(product) for name, product in products().items()}))


if __name__ == "__main__":
    main()

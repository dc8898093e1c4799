"""Tokens per second of a model of GPT-2's size: the file's `generate` beside transformers' own.

The weights are random, so that nothing ends an answer early: every row gets all its new tokens.
Both write the same texts, best tokens first, in interleaved rounds, so that a busy machine slows
each alike; medians over rounds are printed. `python benchmarks/generation.py`
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from torchscript_bundle.export.generation import make_generator, read_facts  # noqa: E402
from torchscript_bundle.jit import tracing  # noqa: E402

BATCHES = (1, 8)
PROMPT = 32
NEW = 128
ROUNDS = 3

#: Writes `NEW` tokens after texts, int64 `[batch, length]`; gives them without the texts.
Writer = Callable[[Tensor], Tensor]


def eager_writer(model: Any) -> Writer:
    """transformers' `generate`, with its cache of keys and values."""

    def write(ids: Tensor) -> Tensor:
        with torch.no_grad():
            written: Tensor = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
        return written[:, ids.shape[1] :]

    return write


def file_writer(model: Any, path: Path) -> Writer:
    """The `generate` of the file that the exporter makes of the model."""
    made = make_generator(model, read_facts(model, PROMPT + NEW))
    tracing.save(made.module, path)
    module = tracing.load(path, torch.device("cpu"))

    def write(ids: Tensor) -> Tensor:
        with torch.no_grad():
            written: Tensor = module.generate(ids, torch.ones_like(ids), NEW, eos_ids=[])
        return written

    return write


def measure(writers: dict[str, Writer], batch: int) -> dict[str, float]:
    """Median new tokens per second of each, over all rows."""
    ids = torch.randint(1000, 50_000, (batch, PROMPT), generator=torch.Generator().manual_seed(0))
    rates: dict[str, list[float]] = {name: [] for name in writers}
    for number in tqdm(range(ROUNDS + 1), desc=f"{batch} text(s) a batch", unit="round"):
        answers = []
        for name, write in writers.items():
            started = time.perf_counter()
            answers.append(write(ids))
            if number:  # the first round warms up
                rates[name].append(batch * NEW / (time.perf_counter() - started))
        assert all(torch.equal(answer, answers[0]) for answer in answers)
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    """Prints one table."""
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    with tempfile.TemporaryDirectory() as temporary:
        writers = {
            "transformers generate": eager_writer(model),
            "this bundle's file": file_writer(model, Path(temporary) / "model.pt"),
        }
        results = {batch: measure(writers, batch) for batch in BATCHES}
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(
        f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads, {size:.0f} M parameters, "
        f"{PROMPT} tokens read, {NEW} written"
    )
    print(f"{'new tokens per second (ratio)':42}" + "".join(f"{f'batch {b}':>17}" for b in BATCHES))
    base = next(iter(writers))
    for name in writers:
        cells = [f"{r[name]:8.1f} ({r[name] / r[base]:4.2f}x)" for r in results.values()]
        print(f"{name:42}" + "".join(f"{cell:>17}" for cell in cells))


if __name__ == "__main__":
    main()

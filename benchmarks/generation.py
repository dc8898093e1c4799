"""Tokens per second of a model of GPT-2's size: what this bundle writes beside transformers' own.

The weights are random, so that nothing ends an answer early: every row gets all its new tokens.
All write the same texts, best tokens first, in interleaved rounds, so that a busy machine slows
each alike; medians over rounds are printed, and how many tokens are transformers'. Packed rows are
written as the server writes them, with a probability for each token.
`python benchmarks/generation.py`
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
from tokenizers import Tokenizer, models
from torch import Tensor
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from torchscript_bundle.export.generation import make_generator, read_facts  # noqa: E402
from torchscript_bundle.jit import tracing  # noqa: E402
from torchscript_bundle.serving.api.sampling import Settings  # noqa: E402
from torchscript_bundle.serving.generation.answer import Answer  # noqa: E402
from torchscript_bundle.serving.generation.packed_generator import pack_generator  # noqa: E402
from torchscript_bundle.serving.generation.request_queue import Limits  # noqa: E402
from torchscript_bundle.serving.generation.scheduler import Scheduler  # noqa: E402
from torchscript_bundle.serving.text.detokenizer import Detokenizer  # noqa: E402

BATCHES = (1, 8)
PROMPT = 32
NEW = 128
ROUNDS = 3
CPU = torch.device("cpu")

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


def file_writer(path: Path) -> Writer:
    """The `generate` of the file that the exporter makes of the model."""
    module = tracing.load(path, CPU)

    def write(ids: Tensor) -> Tensor:
        with torch.no_grad():
            written: Tensor = module.generate(ids, torch.ones_like(ids), NEW, eos_ids=[])
        return written

    return write


def packed_writer(path: Path, precision: str) -> Writer:
    """The server's own loop, over packed weights.

    Raises:
        RuntimeError: this CPU, or this torch, cannot pack them.
    """
    generator, reason = pack_generator(tracing.load(path, CPU), [1000, 2000, 3000], precision)
    if reason is not None:
        raise RuntimeError(f"weights cannot be packed in {precision} here: {reason}")
    nameless = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))

    def spell(row: list[int]) -> Detokenizer:
        return Detokenizer(nameless, row, clean_up=False)

    def write(ids: Tensor) -> Tensor:
        scheduler = Scheduler(generator, CPU, Limits(max(BATCHES), max(BATCHES) * (PROMPT + NEW)))
        answers = [
            Answer(
                row, Settings(), NEW, frozenset(), Detokenizer(nameless, row, clean_up=False), {}
            )
            for row in ids.tolist()
        ]
        for answer in answers:
            scheduler.add([answer])
        while not all(answer.done for answer in answers):
            scheduler.step()
        return torch.tensor([[piece.token for piece in answer.pieces] for answer in answers])

    return write


def measure(writers: dict[str, Writer], batch: int) -> dict[str, tuple[float, float]]:
    """Median new tokens per second of each, over all rows; share of tokens that are the first's."""
    ids = torch.randint(1000, 50_000, (batch, PROMPT), generator=torch.Generator().manual_seed(0))
    rates: dict[str, list[float]] = {name: [] for name in writers}
    equal: dict[str, float] = {}
    expected: Tensor | None = None
    for number in tqdm(range(ROUNDS + 1), desc=f"{batch} text(s) a batch", unit="round"):
        for name, write in writers.items():
            started = time.perf_counter()
            answer = write(ids)
            if number:  # the first round warms up
                rates[name].append(batch * NEW / (time.perf_counter() - started))
            expected = answer if expected is None else expected
            equal[name] = float((answer == expected).double().mean())
            assert equal[name] == 1 or "bfloat16" in name, f"{name}: {equal[name]:.3f} are equal"
    return {name: (statistics.median(values), equal[name]) for name, values in rates.items()}


def main() -> None:
    """Prints one table."""
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.pt"
        tracing.save(make_generator(model, read_facts(model, PROMPT + NEW)).module, path)
        writers = {
            "transformers generate": eager_writer(model),
            "this bundle's file": file_writer(path),
            "served, packed float32": packed_writer(path, "float32"),
            "served, packed bfloat16": packed_writer(path, "bfloat16"),
        }
        results = {batch: measure(writers, batch) for batch in BATCHES}
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(
        f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads, {size:.0f} M parameters, "
        f"{PROMPT} tokens read, {NEW} written"
    )
    heads = "".join(f"{f'batch {batch}':>24}" for batch in BATCHES)
    print(f"{'new tokens per second (ratio, equal)':36}{heads}")
    base = next(iter(writers))
    for name in writers:
        cells = [
            f"{rate:8.1f} ({rate / result[base][0]:4.2f}x, {equal:4.0%})"
            for result in results.values()
            for rate, equal in [result[name]]
        ]
        print(f"{name:36}" + "".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()

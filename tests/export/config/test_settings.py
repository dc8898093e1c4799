"""setup_config.json: what is taken, and what follows from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.export.config.helpers import read
from tests.export.helpers import MODE, refused
from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.config.schema import json_schema
from torchscript_bundle.serving.artifact import ServingOptions

ROOT = Path(__file__).resolve().parents[3]
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


def test_the_schema_in_the_repository_is_the_one_of_the_code() -> None:
    """`python -m torchscript_bundle.export.config.schema > setup_config.schema.json` does it."""
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
        ({"model_name": "org/---"}, MODE),
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

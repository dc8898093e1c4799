"""Names of the classes: the model's, or those of index_to_name.json."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from transformers import BertConfig

from tests.export.helpers import refused
from torchscript_bundle.export.labels import resolve_labels

OWN = ("NEGATIVE", "POSITIVE")


def model_config(*labels: str) -> BertConfig:
    """A model's config with these labels."""
    return BertConfig(
        id2label=dict(enumerate(labels)),
        label2id={name: index for index, name in enumerate(labels)},
    )


def resolve(folder: Path, names: object = None, own: tuple[str, ...] = OWN) -> tuple[str, ...]:
    """Labels where index_to_name.json holds `names`; None for no such file."""
    if names is not None:
        text = names if isinstance(names, str) else json.dumps(names)
        (folder / "index_to_name.json").write_text(text, encoding="utf-8")
    return resolve_labels(model_config(*own), None, folder)


def test_the_models_own_without_a_file(tmp_path: Path) -> None:
    assert resolve(tmp_path) == OWN
    assert resolve_labels(model_config(*OWN), 2, tmp_path / "nosuch") == OWN


@pytest.mark.parametrize(
    ("own", "names", "warned"),
    [
        (OWN, OWN, False),
        (("LABEL_0", "LABEL_1"), ("bad", "good"), False),
        (OWN, ("schlecht", "gut"), True),
        (OWN, ("Negative", "Positive"), True),
        (tuple(f"LABEL_{index}" for index in range(12)), tuple("abcdefghijkl"), False),
    ],
)
def test_the_files_names_win_and_a_renaming_is_told(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    own: tuple[str, ...],
    names: tuple[str, ...],
    warned: bool,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert resolve(tmp_path, dict(enumerate(names)), own) == names
    assert ("labels renamed by" in caplog.text) == warned
    if warned:
        assert f"{own[0]} -> {names[0]}, {own[1]} -> {names[1]}" in caplog.text


@pytest.mark.parametrize("names", [("POSITIVE", "NEGATIVE"), ("positive", "negative")])
def test_the_same_names_in_another_order_are_a_mistake(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    with refused("another order", ", ".join(names), "NEGATIVE, POSITIVE", "correct the file"):
        resolve(tmp_path, dict(enumerate(names)))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("{", ["not JSON"]),
        ("[]", ['must be an object such as {"0": "NEGATIVE"']),
        ("{}", ["must be an object"]),
        ({"1": "a", "2": "b"}, ["must be an object"]),
        ({"zero": "a", "one": "b"}, ["must be an object"]),
        ({"0": "a", "1": ""}, ["every label must be a string that is not empty"]),
        ({"0": "a", "1": 1}, ["every label must be a string"]),
        ({"0": "a", "1": "b", "2": "c"}, ["has 3 labels", "num_labels is 2", "artifacts_dir"]),
    ],
)
def test_a_file_that_does_not_fit(tmp_path: Path, names: object, words: list[str]) -> None:
    with refused(str(tmp_path / "index_to_name.json"), *words) as refusal:
        resolve(tmp_path, names)
    assert refusal.sentence


@pytest.mark.parametrize(
    "given", ["[O, B-PER, I-PER]", " ['O', \"B-PER\",I-PER ] ", ["O", "B-PER", "I-PER"]]
)
def test_the_list_of_the_torchserve_example(tmp_path: Path, given: object) -> None:
    own = tuple(f"LABEL_{index}" for index in range(3))
    assert resolve(tmp_path, {"label_list": given}, own) == ("O", "B-PER", "I-PER")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("O, B-PER", "must be an object such as"),
        (5, "must be an object such as"),
        ("[]", "every label must be a string that is not empty"),
        ("[O, , B-PER]", "every label must be a string that is not empty"),
        (["O", 5], "every label must be a string"),
        ([], "must be an object such as"),
    ],
)
def test_a_list_that_is_none(tmp_path: Path, given: object, words: str) -> None:
    with refused(words):
        resolve(tmp_path, {"label_list": given})


def test_num_labels_must_be_the_models(tmp_path: Path) -> None:
    with refused("num_labels 3", "2 labels", "or leave it out"):
        resolve_labels(model_config(*OWN), 3, tmp_path)


def test_indices_of_the_model_must_start_at_zero(tmp_path: Path) -> None:
    config = BertConfig(id2label={1: "a", 2: "b"}, label2id={"a": 1, "b": 2})
    with refused("indices 1, 2", "0 up to 1"):
        resolve_labels(config, None, tmp_path)

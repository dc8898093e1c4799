"""The options that modes store: what is read back, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.serving.helpers import BUNDLE
from torchscript_bundle.serving.artifact import REMAKE, Bundle
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.modes import load_forward_mode, load_generation_mode
from torchscript_bundle.serving.modes.mode_options import (
    FeatureExtractionOptions,
    FillMaskOptions,
    GenerationOptions,
    ModeOptions,
    QuestionAnsweringOptions,
    RerankingOptions,
    SequenceClassificationOptions,
    ZeroShotOptions,
)

STORED: list[tuple[type[ModeOptions], dict[str, Any]]] = [
    (ModeOptions, {}),
    (SequenceClassificationOptions, {"problem_type": "regression"}),
    (FillMaskOptions, {"mask_token": "[MASK]", "mask_token_id": 4, "clean_up_spaces": True}),
    (QuestionAnsweringOptions, {"null_token": None, "has_words": True}),
    (QuestionAnsweringOptions, {"null_token": 2, "has_words": False}),
    (ZeroShotOptions, {"entailment": 0, "contradiction": 2}),
    (RerankingOptions, {"activation": "sigmoid"}),
    (
        FeatureExtractionOptions,
        {"pooling": "cls", "normalized": True, "prompts": {"q": "?"}, "default_prompt": ""},
    ),
    (
        GenerationOptions,
        {
            **{"eos_ids": [1, 2], "pad_id": 0, "start_id": -1, "first_id": -1, "last_id": -1},
            **{"max_source_length": 0, "defaults": {"top_p": 0.5}, "chat_template": None},
            **{"special_tokens": {"eos_token": "</s>", "others": ["a"]}, "clean_up_spaces": False},
            "default_max_new_tokens": 20,
        },
    ),
]


@pytest.mark.parametrize(("kind", "stored"), STORED)
def test_what_is_stored_is_read_back_and_written_alike(
    kind: type[ModeOptions], stored: dict[str, Any]
) -> None:
    read = asdict(kind.read({**stored, "of_a_later_version": 1}))
    assert list(read.items())[: len(stored)] == [*stored.items()]


def test_an_older_artifact_lacks_younger_keys() -> None:
    stored = next(stored for kind, stored in STORED if kind is FeatureExtractionOptions)
    assert FeatureExtractionOptions.read(stored).unpooled == {}
    with pytest.raises(ArtifactError, match="unpooled"):
        FeatureExtractionOptions.read({**stored, "unpooled": {"q": "1"}})


@pytest.mark.parametrize(
    ("kind", "stored", "name"),
    [(kind, stored, name) for kind, stored in STORED for name in stored],
)
def test_a_missing_key_and_a_wrong_type_are_named_with_the_remedy(
    kind: type[ModeOptions], stored: dict[str, Any], name: str
) -> None:
    rest = {key: value for key, value in stored.items() if key != name}
    with pytest.raises(ArtifactError) as lacking:
        kind.read(rest)
    assert str(lacking.value) == f"bundle.json: mode_options lacks {name}; {REMAKE}"
    with pytest.raises(ArtifactError) as wrong:
        kind.read({**stored, name: [1.5]})
    assert str(wrong.value).startswith(f"bundle.json: mode_options.{name} is [1.5]; ")
    assert str(wrong.value).endswith(REMAKE)


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        (RerankingOptions, {"activation": "relu"}, "is 'relu'; known are sigmoid, identity; "),
        (ZeroShotOptions, {"entailment": True}, "is True; not int; "),
        (QuestionAnsweringOptions, {"null_token": "2"}, "is '2'; not int | None; "),
        (FeatureExtractionOptions, {"prompts": {"q": 1}}, "is {'q': 1}; not dict[str, str]; "),
        (GenerationOptions, {"eos_ids": [1, None]}, "is [1, None]; not list[int]; "),
    ],
)
def test_types_are_told(kind: type[ModeOptions], change: dict[str, Any], says: str) -> None:
    stored = next(stored for other, stored in STORED if other is kind)
    with pytest.raises(ArtifactError) as caught:
        kind.read({**stored, **change})
    assert says in str(caught.value)


def test_each_kind_of_service_loads_modes_of_its_own_kind_alone() -> None:
    """And all of them name the modes that there are."""
    stored = next(stored for kind, stored in STORED if kind is GenerationOptions)
    writer: Bundle = replace(BUNDLE, mode="text_generation", mode_options=stored)
    refusals: list[tuple[Callable[[Bundle], object], Bundle]] = [
        (load_forward_mode, writer),
        (load_generation_mode, BUNDLE),
    ]
    for load, bundle in refusals:
        with pytest.raises(ArtifactError, match=r"is not served; known are .*text2text_generation"):
            load(bundle)
    assert load_generation_mode(writer).options.eos_ids == [1, 2]


def test_an_artifact_holds_what_its_mode_reads(artifact: Callable[[str], Path]) -> None:
    stored = Bundle.load(artifact("bert_mlm")).mode_options
    assert asdict(FillMaskOptions.read(stored)) == stored

"""Two texts together go to models that take them; of old artifacts, to those that show it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.export.helpers import config_for
from tests.serving.helpers import CPU, ask, change
from torchscript_bundle.export.exporter import export
from torchscript_bundle.serving.artifact import BUNDLE_FILE, Bundle
from torchscript_bundle.serving.service import Service
from torchscript_bundle.serving.text.pairs import takes_pairs
from torchscript_bundle.serving.text.tokenizer import TextEncoder

PAIR = {"text": "It works.", "text_pair": "a film"}
TYPED = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture(scope="module")
def one_type(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact whose tokenizer gives a token type that its model lacks."""
    folder = tmp_path_factory.mktemp("one_type")
    model = tiny.save_checkpoint(folder / "model", tiny.roberta, tiny.wordpiece_tokenizer())
    export(config_for(folder, model), folder / "artifact")
    return folder / "artifact"


def older(artifact: Path, to: Path, **config: Any) -> Path:
    """The same as it was made before pairs were recorded."""
    folder = change(artifact, to, config=config)
    facts = json.loads((folder / BUNDLE_FILE).read_text())
    del facts["pairs"]
    (folder / BUNDLE_FILE).write_text(json.dumps(facts))
    assert Bundle.load(folder).pairs is None
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_an_older_artifact_is_asked_when_it_is_loaded(
    artifact: Callable[[str], Path], one_type: Path, tmp_path: Path, packed: bool
) -> None:
    cannot = Service(older(one_type, tmp_path / "cannot", packed_weights=packed), CPU)
    before = ask(cannot, "It works.")
    status, answer = ask(cannot, [PAIR, "It works."])
    assert (status, answer["error"].startswith("item 0 of the list: this model")) == (422, True)
    assert ask(cannot, "It works.") == before
    for name in ("bert", "distilbert"):
        known = ask(Service(artifact(name), CPU), PAIR)
        can = Service(older(artifact(name), tmp_path / name, packed_weights=packed), CPU)
        status, answer = ask(can, PAIR)
        assert (status, answer["label"]) == (200, known[1]["label"])
        assert answer["score"] == pytest.approx(known[1]["score"], abs=1e-5)


class Untouched:
    """A module that must not run: on a GPU, a wrong index would end the process."""

    def run(self, rows: object) -> None:
        raise AssertionError("it was run")


@pytest.mark.parametrize(
    ("inputs", "pairs", "expected"),
    [(TYPED, None, False), (TYPED[:2], None, True), (TYPED, True, True), (TYPED, False, False)],
)
def test_nothing_is_tried_on_a_gpu_or_where_it_is_known(
    one_type: Path, inputs: tuple[str, ...], pairs: bool | None, expected: bool
) -> None:
    bundle = replace(Bundle.load(one_type), inputs=inputs, pairs=pairs)
    encoder = TextEncoder(one_type, bundle, truncate=True)
    assert takes_pairs(bundle, encoder, Untouched(), on_cpu=False) is expected

"""`save_mode: "pretrained"`: the traced artifact's answers, from transformers, or a refusal."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import transformers

from tests import tiny
from tests.conftest import MODES
from tests.serving.helpers import CPU, ask, change, post
from torchscript_bundle.export.tasks import TASKS
from torchscript_bundle.server import ROOT
from torchscript_bundle.serving.api.http import HttpRequest
from torchscript_bundle.serving.artifact import MODEL_FILES, PRETRAINED_FOLDER, Bundle
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.service import Service

Artifact = Callable[[str], Path]
Damage = Callable[[Path], object]

WEIGHTS = f"{PRETRAINED_FOLDER}/model.safetensors"
LONG = " ".join(tiny.CORPUS * 3)
#: Each mode, poolings, both sides of padding, rows that never share a batch, padding that is read.
NAMES = [
    *("bert", "bart", "convbert", "one_label", "unigram_ner", "roberta_mlm", "bert_qa", "left_qa"),
    *("bert_embedding", "roberta_embedding", "llama_embedding", "unigram_reranker", "left_nli"),
    *("bert_sparse", "roberta_sparse"),
]
#: What each mode is asked; a checkpoint's own mask goes into `[MASK]`.
REQUESTS: dict[str, list[object]] = {
    "sequence_classification": [
        "It works.",
        {"inputs": [*tiny.CORPUS, "x", LONG], "parameters": {"top_k": None}},
        {"text": tiny.CORPUS[0], "text_pair": tiny.CORPUS[1]},
    ],
    "token_classification": [*tiny.CORPUS, [*tiny.CORPUS, LONG]],
    "question_answering": [
        {"question": "How long?", "context": tiny.CORPUS[1]},
        {
            "inputs": [{"question": "Who?", "context": text} for text in (*tiny.CORPUS, LONG)],
            "parameters": {"top_k": 3},
        },
    ],
    "fill_mask": ["It [MASK] as described.", ["[MASK] bad at all", "two [MASK] days, [MASK]"]],
    "feature_extraction": ["It works.", [*tiny.CORPUS, "x", LONG]],
    "sparse_embedding": ["It works.", [*tiny.CORPUS, "x", LONG]],
    "reranking": [{"query": "soup", "passages": [*tiny.CORPUS, "x", LONG]}],
    "zero_shot_classification": [
        {"inputs": text, "parameters": {"candidate_labels": ["food", "film", "phones"]}}
        for text in tiny.CORPUS
    ],
}


@pytest.fixture(scope="module")
def eager(eager_artifact: Artifact) -> Callable[[str], Service]:
    """A name of a checkpoint -> a service that runs it eagerly."""
    return cache(lambda name: Service(eager_artifact(name), CPU))


def numbers(value: Any) -> Iterator[float]:
    """The floats of an answer, in order."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers(each)


def without_numbers(value: Any) -> Any:
    """An answer with every float alike."""
    if isinstance(value, dict):
        return {key: without_numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_numbers(each) for each in value]
    return 0.0 if isinstance(value, float) else value


def spell_mask(request: object, bundle: Bundle) -> object:
    text = json.dumps(request)
    return json.loads(text.replace("[MASK]", bundle.mode_options.get("mask_token", "")))


def test_every_mode_is_asked() -> None:
    """But those whose models write: they are served from the traced file alone."""
    asked = {MODES.get(name, "sequence_classification") for name in NAMES}
    assert asked == {name for name, task in TASKS.items() if not task.generates}


@pytest.mark.parametrize("name", NAMES)
def test_answers_equal_those_of_the_traced_artifact(
    service: Callable[[str], Service],
    eager: Callable[[str], Service],
    artifact: Artifact,
    name: str,
) -> None:
    """Every mode and kind of tokenizer; the traced artifact is tested against other libraries."""
    bundle = Bundle.load(artifact(name))
    for request in REQUESTS[MODES.get(name, "sequence_classification")]:
        request = spell_mask(request, bundle)
        status, expected = ask(service(name), request)
        found_status, found = ask(eager(name), request)
        assert (status, found_status) == (200, 200), (expected, found)
        assert without_numbers(found) == without_numbers(expected)
        ours, theirs = list(numbers(found)), list(numbers(expected))
        scale = max(map(abs, theirs))
        assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) <= 1e-5 * scale


def test_wrong_requests_get_the_same_refusals(
    service: Callable[[str], Service], eager: Callable[[str], Service]
) -> None:
    wrong = [post(""), post([]), post({"txt": "a"}), post({"text": "a", "top_k": -1})]
    both = [each("bert").answer([*wrong, post("It works.")]) for each in (service, eager)]
    assert [response.status for response in both[1]] == [422, 422, 422, 422, 200]
    assert both[0][:-1] == both[1][:-1]


def test_describe_says_how_the_model_is_kept(eager: Callable[[str], Service]) -> None:
    [response] = eager("bert").answer([HttpRequest({}, {}, purpose="describe")])
    assert json.loads(response.body)["save_mode"] == "pretrained"


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-2] ^= 1
    (folder / WEIGHTS).write_bytes(content)


def truncate(folder: Path) -> None:
    """Breaks the weights and keeps the digest true."""
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])
    change(folder, folder)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (flip_a_byte, f"{WEIGHTS} is not the file"),
        (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
        (
            lambda folder: (folder / MODEL_FILES["pretrained"]).unlink(),
            f"{PRETRAINED_FOLDER}/config.json is missing",
        ),
        (
            lambda folder: (folder / PRETRAINED_FOLDER / "adapter_config.json").write_text("{}"),
            "adapter_config.json is not of this artifact",
        ),
        (
            truncate,
            f"{PRETRAINED_FOLDER} cannot be loaded by transformers {transformers.__version__}",
        ),
        (
            lambda folder: change(folder, folder, bundle={"save_options": {"auto_class": "os"}}),
            "save_options.auto_class is 'os'",
        ),
    ],
)
def test_damaged_artifact_is_refused_with_the_file(
    eager_artifact: Artifact, tmp_path: Path, damage: Damage, says: str
) -> None:
    folder = shutil.copytree(eager_artifact("bert"), tmp_path / "artifact")
    damage(folder)
    with pytest.raises(ArtifactError) as caught:
        Service(folder, CPU)
    assert says in str(caught.value)


def test_a_vector_needs_its_pooling(eager_artifact: Artifact, tmp_path: Path) -> None:
    options = {**Bundle.load(eager_artifact("bert_embedding")).mode_options, "pooling": "max"}
    facts = {"mode_options": options}
    folder = change(eager_artifact("bert_embedding"), tmp_path / "artifact", bundle=facts)
    with pytest.raises(ArtifactError, match=r"mode_options\.pooling is 'max'"):
        Service(folder, CPU)


WITHOUT = """
import sys
from pathlib import Path
import torch

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "transformers":
            raise ModuleNotFoundError("No module named 'transformers'", name=name)

sys.meta_path.insert(0, Missing())
from torchscript_bundle.serving.service import Service
Service(Path(sys.argv[1]), torch.device("cpu"))
"""


@pytest.mark.parametrize("name", ["eager_artifact", "artifact"])
def test_only_a_worker_of_such_an_artifact_needs_transformers(
    request: pytest.FixtureRequest, name: str
) -> None:
    folder = request.getfixturevalue(name)("bert")
    command = [sys.executable, "-c", WITHOUT, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if name == "artifact":
        assert done.returncode == 0, done.stderr
        return
    wanted = f"{sys.executable} -m pip install transformers=={transformers.__version__}"
    assert done.stderr.splitlines()[-1].endswith(wanted)
    assert "No module named 'transformers'" in done.stderr


def test_another_major_version_is_refused(
    eager_artifact: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    versions = Bundle.load(eager_artifact("bert")).versions
    for made_by, fits in (("4.57.1", False), ("5.0.0", True)):
        facts = {"versions": {**versions, "transformers": made_by}}
        folder = change(eager_artifact("bert"), tmp_path / made_by, bundle=facts)
        if fits:
            with caplog.at_level(logging.WARNING):
                Service(folder, CPU)
            assert f"proven with transformers {made_by}, served with" in caplog.text
            continue
        with pytest.raises(ArtifactError, match=r"needs transformers 4\.57\.1, here is .* install"):
            Service(folder, CPU)

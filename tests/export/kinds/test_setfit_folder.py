"""SetFit folders: scores are those of the head over sentence-transformers' vectors; refusals."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny
from tests.export.helpers import config_for, copy, edit_json, refused
from tests.serving.helpers import ask
from torchscript_bundle.export.exporter import export
from torchscript_bundle.export.kinds import load_source
from torchscript_bundle.export.kinds.classifiers import SCORES, read_classifier
from torchscript_bundle.serving.service import Service

joblib = pytest.importorskip("joblib")
sklearn = pytest.importorskip("sklearn")
sentence_transformers = pytest.importorskip("sentence_transformers")

from sklearn.linear_model import LogisticRegression, RidgeClassifier  # noqa: E402
from sklearn.multiclass import OneVsRestClassifier  # noqa: E402
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier  # noqa: E402

HEAD = "model_head.pkl"
SETTINGS = "config_setfit.json"
TEXTS = [*(text[:20] for text in tiny.CORPUS), "x", "cold soup", "two days"]
RANDOM = np.random.default_rng(0)
WORDS = np.array(["bad", "good", "so-so", "bad", "good", "so-so", "bad", "good"])
SEVERAL = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]] * 2)


def logistic(**settings: Any) -> Any:
    return LogisticRegression(C=50.0, **settings)


#: What a head is -> the head, its targets, and what else the folder says.
HEADS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "binary": (logistic(), [0, 1] * 4, {"labels": ["no", "yes"]}),
    "three words": (logistic(), WORDS, {"labels": ["so-so", "good", "bad"]}),
    "three numbers": (logistic(fit_intercept=False), [0, 2, 1, 0, 2, 1, 0, 2], {}),
    "one against the rest": (OneVsRestClassifier(logistic()), WORDS, {}),
    "two, one against the rest": (OneVsRestClassifier(logistic()), WORDS[[0, 1, 0, 1] * 2], {}),
    "several labels": (OneVsRestClassifier(logistic()), SEVERAL, {"labels": ["a", "b", "c"]}),
    "several outputs": (MultiOutputClassifier(logistic()), SEVERAL, {"labels": ["a", "b", "c"]}),
}


def save(body: Path, folder: Path, head: Any, targets: Any, **settings: Any) -> Path:
    """A SetFit folder, as its library writes one."""
    copy(body, folder)
    encoder = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    wanted = settings.get("normalize_embeddings", False)
    head.fit(encoder.encode(TEXTS, normalize_embeddings=wanted), targets)
    joblib.dump(head, folder / HEAD)
    (folder / SETTINGS).write_text(json.dumps({"labels": None, **settings}))
    return folder


@pytest.fixture
def model(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A folder with a binary head to spoil."""
    head, targets, settings = HEADS["binary"]
    return save(checkpoint("roberta_embedding"), tmp_path / "model", head, targets, **settings)


def answers(folder: Path, model: Path, **settings: Any) -> list[dict[str, float]]:
    """The score of each label, of each text."""
    config = config_for(folder, model, max_length=32, use_safetensors=False, **settings)
    export(config, folder / "artifact")
    service = Service(folder / "artifact", torch.device("cpu"))
    status, found = ask(service, {"inputs": TEXTS, "parameters": {"top_k": None}})
    assert status == 200, found
    return [{entry["label"]: entry["score"] for entry in entries} for entries in found]


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_becomes_a_layer(tmp_path: Path, kind: str) -> None:
    """With the probabilities and the classes of the head."""
    head, targets, settings = HEADS[kind]
    vectors = RANDOM.normal(size=(8, 32)).astype(np.float32)
    joblib.dump(head.fit(vectors, targets), tmp_path / HEAD)
    found = read_classifier(tmp_path / HEAD, "it", settings.get("labels"))
    expected = head.predict_proba(vectors)
    if isinstance(expected, list):
        expected = np.stack([each[:, 1] for each in expected], axis=1)
    with torch.no_grad():
        ours = SCORES[found.problem_type](found.layer(torch.tensor(vectors))).numpy()
    assert np.abs(ours - expected).max() < 1e-5
    named = [each for each in getattr(head, "classes_", []) if isinstance(each, str)]
    numbered = [f"LABEL_{at}" for at in range(expected.shape[1])]
    assert [*found.labels] == (named or settings.get("labels") or numbered)


def test_answers_are_those_of_the_head_over_its_encoder(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """They can be explained too."""
    body = checkpoint("roberta_embedding")
    head = LogisticRegression(C=50.0)
    model = save(body, tmp_path / "model", head, WORDS, normalize_embeddings=True)
    encoder = sentence_transformers.SentenceTransformer(str(model), device="cpu")
    expected = head.predict_proba(encoder.encode(TEXTS, normalize_embeddings=True))
    found = answers(tmp_path, model, captum_explanation=True)
    ours = np.array([[each[label] for label in ("bad", "good", "so-so")] for each in found])
    assert np.abs(ours - expected).max() < 1e-5
    assert ours.std() > 0.01


def test_a_head_of_torch_answers_as_setfit_does(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    setfit = pytest.importorskip("setfit")
    body, labels = checkpoint("roberta_embedding"), ["a", "b", "c"]
    torch.manual_seed(0)
    head = setfit.SetFitHead(32, 3, temperature=0.5, multitarget=True, device="cpu")
    encoder = sentence_transformers.SentenceTransformer(str(body), device="cpu")
    oracle = setfit.SetFitModel(encoder, head, labels=labels)
    oracle.save_pretrained(str(tmp_path / "model"))
    found = answers(tmp_path, tmp_path / "model")
    ours = torch.tensor([[each[label] for label in labels] for each in found])
    assert torch.allclose(ours, oracle.predict_proba(TEXTS), atol=1e-5)


def test_the_pickle_is_left_alone_without_leave(model: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(tmp_path / "marker"), "w"))

    joblib.dump(Trap(), model / HEAD)
    with refused("whose classifier is a pickle", '"use_safetensors": false') as refusal:
        export(config_for(tmp_path, model), tmp_path / "artifact")
    assert refusal.sentence
    assert not (tmp_path / "marker").exists()


def test_leave_is_logged(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = load_source(config_for(tmp_path, model, use_safetensors=False))
    assert source.model.config.id2label == {0: "no", 1: "yes"}
    assert "use_safetensors is false: the pickled head of" in caplog.text


def with_head(head: Any, targets: Any = WORDS) -> Callable[[Path], None]:
    """Replaces the head by one that was fitted on random vectors."""

    def spoil(folder: Path) -> None:
        joblib.dump(head.fit(RANDOM.normal(size=(8, 32)), targets), folder / HEAD)

    return spoil


def older(folder: Path) -> None:
    """A head of three classes that scikit-learn 1.7 or older computed one by one."""
    head = logistic().fit(RANDOM.normal(size=(8, 32)), WORDS)
    head.multi_class = "ovr"
    joblib.dump(head, folder / HEAD)


@pytest.mark.parametrize(
    ("spoil", "settings", "words"),
    [
        (with_head(RidgeClassifier()), {}, ["RidgeClassifier", "another kind"]),
        (with_head(ClassifierChain(logistic()), SEVERAL), {}, ["ClassifierChain"]),
        (with_head(OneVsRestClassifier(RidgeClassifier())), {}, ["OneVsRestClassifier"]),
        (
            with_head(MultiOutputClassifier(logistic()), SEVERAL + 1),
            {},
            ["each output must be 0 or 1"],
        ),
        (older, {}, ["an older scikit-learn"]),
        (lambda folder: (folder / HEAD).write_bytes(b"?"), {}, ["cannot be loaded"]),
        (lambda folder: (folder / HEAD).unlink(), {}, ["has no model_head.pkl"]),
        (lambda folder: edit_json(folder / SETTINGS, labels=["one"]), {}, ["has 1 labels"]),
        (lambda folder: (folder / SETTINGS).write_text("[]"), {}, ["must be a JSON object"]),
        (
            lambda folder: edit_json(
                folder / "config_sentence_transformers.json", default_prompt_name="query"
            ),
            {},
            ["puts a prompt before each text"],
        ),
        (lambda folder: None, {"save_mode": "pretrained"}, ['"save_mode": "torchscript"']),
        (lambda folder: None, {"num_labels": 5}, ["num_labels 5"]),
    ],
)
def test_refuses_in_one_sentence(
    model: Path,
    tmp_path: Path,
    spoil: Callable[[Path], object],
    settings: dict[str, Any],
    words: list[str],
) -> None:
    spoil(model)
    config = config_for(tmp_path, model, use_safetensors=False, **settings)
    with refused(*words) as refusal:
        export(config, tmp_path / "artifact")
    assert refusal.sentence


def test_without_scikit_learn_it_says_how_to_install_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    with refused("needs a package that is missing", "-m pip install scikit-learn"):
        export(config_for(tmp_path, model, use_safetensors=False), tmp_path / "artifact")

"""Classifiers over a text's vector, as SetFit saves them: scikit-learn's, or its own torch head.

Each becomes one layer with the same probabilities, tried on random vectors beside the original.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.export.errors import ExportError, one_line
from torchscript_bundle.serving.modes.mode_options import ProblemType

SINGLE: ProblemType = "single_label_classification"
MULTI: ProblemType = "multi_label_classification"
#: Logits `[batch, labels]` -> probabilities, as they are served.
SCORES: dict[ProblemType, Callable[[torch.Tensor], torch.Tensor]] = {
    SINGLE: lambda logits: torch.softmax(logits, dim=-1),
    MULTI: torch.sigmoid,
}
#: Largest difference of probabilities: scikit-learn computes them in float64.
TOLERANCE = 1e-5
#: Random vectors that a layer is compared on, half of them of length 1.
TRIALS = 64


@dataclass(frozen=True)
class Classifier:
    """A layer from vectors `[batch, dim]` to logits `[batch, labels]`, and its labels by index."""

    layer: torch.nn.Module
    labels: tuple[str, ...]
    problem_type: ProblemType


@dataclass(frozen=True)
class _Read:
    """A layer, and the classes that its logits are for; None for the labels in their order."""

    layer: torch.nn.Module
    problem_type: ProblemType
    classes: Sequence[Any] | None = None


def read_classifier(path: Path, name: str, labels: Sequence[object] | None) -> Classifier:
    """Unpickle a head, which runs code: only for authors whom the config trusts.

    `labels` are the folder's names of classes, if it has any.
    """
    head = _unpickle(path, name)
    try:
        read = READERS.get(type(head).__name__, _unknown)(head)
        _compare(read, head)
    except (AttributeError, TypeError, ValueError) as error:
        raise ExportError(
            f"the head of {name} ({type(head).__name__}) cannot be exported ({one_line(error)}); "
            "exported are LogisticRegression, alone or in a OneVsRestClassifier or "
            "MultiOutputClassifier, and SetFitHead: train the model with one of them"
        ) from error
    return Classifier(read.layer, _labels(read, name, labels), read.problem_type)


def _unpickle(path: Path, name: str) -> Any:
    try:
        import joblib

        return joblib.load(path)
    except ImportError as error:
        raise ExportError(
            f"the head of {name} needs a package that is missing ({one_line(error)}); install it: "
            f"{sys.executable} -m pip install scikit-learn, or setfit for a head of its own"
        ) from error
    except Exception as error:  # a pickle may raise anything
        raise ExportError(
            f"the head of {name} cannot be loaded ({one_line(error)}); save the model again with "
            "the installed versions of setfit and scikit-learn"
        ) from error


def _labels(read: _Read, name: str, labels: Sequence[object] | None) -> tuple[str, ...]:
    """Return the name of each class: its own if it is a string, else the folder's, if any."""
    count = read.layer(torch.zeros(1, _width(read))).shape[-1]
    classes = range(count) if read.classes is None else read.classes
    try:
        return tuple(
            each
            if isinstance(each, str)
            else str(labels[int(each)])
            if labels
            else f"LABEL_{int(each)}"
            for each in classes
        )
    except IndexError as error:
        raise ExportError(
            f"{name} has {len(labels or ())} labels in its config_setfit.json and {count} classes "
            "in its head; correct labels there"
        ) from error


def _unknown(head: Any) -> _Read:
    raise ValueError("it is of another kind")


def _logistic(head: Any) -> _Read:
    if len(head.classes_) > 2 and (
        getattr(head, "multi_class", "") == "ovr" or head.solver == "liblinear"
    ):
        raise ValueError("an older scikit-learn made its probabilities otherwise")
    if len(head.classes_) > 2:
        return _Read(_linear(head.coef_, head.intercept_), SINGLE, head.classes_.tolist())
    return _Read(_binary(head), SINGLE, head.classes_.tolist())


def _one_vs_rest(head: Any) -> _Read:
    if len(head.estimators_) == 1:
        return _Read(_binary(head.estimators_[0]), SINGLE, head.classes_.tolist())
    layer = _together(head.estimators_)
    if head.multilabel_:
        return _Read(layer, MULTI)
    # Probabilities are made to sum to 1, as softmax does with their logarithms.
    single = torch.nn.Sequential(layer, torch.nn.LogSigmoid())
    return _Read(single, SINGLE, head.classes_.tolist())


def _multi_output(head: Any) -> _Read:
    for estimator in head.estimators_:
        if estimator.classes_.tolist() != [0, 1]:
            raise ValueError("each output must be 0 or 1")
    return _Read(_together(head.estimators_), MULTI)


def _setfit_head(head: Any) -> _Read:
    scale = head.temperature + head.eps
    bias = 0.0 if head.linear.bias is None else head.linear.bias.detach() / scale
    layer = _linear(head.linear.weight.detach() / scale, bias)
    return _Read(layer, MULTI if head.multitarget else SINGLE)


#: The class of a head -> what reads it.
READERS: dict[str, Callable[[Any], _Read]] = {
    "LogisticRegression": _logistic,
    "OneVsRestClassifier": _one_vs_rest,
    "MultiOutputClassifier": _multi_output,
    "SetFitHead": _setfit_head,
}


def _binary(estimator: Any) -> torch.nn.Linear:
    """Return logits of both classes, of which the first is always 0."""
    weight = torch.as_tensor(estimator.coef_)
    if weight.shape[0] != 1:
        raise ValueError("a binary classifier has one row of weights")
    bias = torch.as_tensor(estimator.intercept_).reshape(-1)
    return _linear(
        torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.zeros_like(bias), bias])
    )


def _together(estimators: Sequence[Any]) -> torch.nn.Linear:
    """Return one layer of several binary classifiers: a logit for each."""
    binary = [_binary(each) for each in estimators]
    return _linear(
        torch.stack([each.weight[1].detach() for each in binary]),
        torch.stack([each.bias[1].detach() for each in binary]),
    )


def _linear(weight: Any, bias: Any) -> torch.nn.Linear:
    """Build a linear layer of weights `[out, in]` and biases `[out]`, or one for all."""
    rows = torch.as_tensor(weight, dtype=torch.float32)
    layer = torch.nn.Linear(rows.shape[1], rows.shape[0])
    with torch.no_grad():
        layer.weight.copy_(rows)
        layer.bias.copy_(torch.as_tensor(bias, dtype=torch.float32))
    return layer


def _width(read: _Read) -> int:
    """Return the numbers of a vector that the layer takes."""
    layers = (each for each in read.layer.modules() if isinstance(each, torch.nn.Linear))
    return next(layers).in_features


@torch.no_grad()
def _compare(read: _Read, head: Any) -> None:
    """Raise ValueError where the layer has other probabilities than the head itself."""
    vectors = torch.randn(TRIALS, _width(read), generator=torch.Generator().manual_seed(0))
    vectors[::2] = torch.nn.functional.normalize(vectors[::2], dim=-1)
    given = vectors if isinstance(head, torch.nn.Module) else vectors.numpy()
    expected = head.predict_proba(given)
    if isinstance(expected, list):  # of each output, for 0 and for 1
        expected = torch.stack([torch.as_tensor(each)[:, 1] for each in expected], dim=1)
    scores = SCORES[read.problem_type](read.layer(vectors))
    difference = (scores - torch.as_tensor(expected)).abs().max().item()
    if not difference <= TOLERANCE:
        raise ValueError(f"its probabilities differ by {difference:.2g}")

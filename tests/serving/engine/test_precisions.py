"""What a worker makes of its artifact's precision, and what it says where that cannot be had."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cpu import needs_bfloat16, needs_int8
from tests.serving.helpers import CPU, ask, change, post, read
from torchscript_bundle.serving.api.http import HttpRequest
from torchscript_bundle.serving.artifact import CALIBRATION_FILE, PRECISIONS, Bundle
from torchscript_bundle.serving.engine.loaders import LOADERS, load_torchscript
from torchscript_bundle.serving.engine.onednn import calibrate
from torchscript_bundle.serving.engine.onednn import packed_weights as weights
from torchscript_bundle.serving.engine.padding import pad_batch
from torchscript_bundle.serving.engine.precisions import BUILDERS
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.service import Service, Tokenized
from torchscript_bundle.serving.text.tokenizer import TextEncoder

Artifact = Callable[[str], Path]
TEXTS = [
    "x",
    "It works.",
    "Bad soup",
    "The film was long and the ending was a surprise to all of us.",
    "We waited an hour for cold soup, and nobody said sorry. " * 6,
]
#: How far a logit may be from that of the same text alone, of the largest one. Sums are ordered
#: otherwise in a batch; in bfloat16, with 8 significant bits, that ends at other numbers here and
#: there, and these random weights amplify it (those of the demo model less: 2 * 2**-8).
ROUNDING = {"float32": 1e-4, "bfloat16": 12 * 2**-8, "int8": 1e-2}
LOWER = [
    pytest.param("bfloat16", marks=needs_bfloat16),
    pytest.param("int8", marks=needs_int8),
]


def lowered(artifact: Path, to: Path, precision: str) -> Path:
    """A copy of an artifact that asks for a precision; for int8, it is calibrated on `TEXTS`."""
    folder = change(artifact, to)
    bundle = Bundle.load(folder)
    if precision == "int8":
        encoder = TextEncoder(folder, bundle, truncate=True)
        inputs = [pad_batch(encoder.encode(text), bundle) for text in TEXTS]
        found = calibrate(load_torchscript(folder, bundle, CPU), inputs)
        (folder / CALIBRATION_FILE).write_text(json.dumps(found.as_dict()))
    return change(folder, folder, bundle={"precision": precision})


def running(service: Service) -> dict[str, str | None]:
    """What the describe call says of it."""
    [response] = service.answer([HttpRequest({}, {}, purpose="describe")])
    return dict(read(response)["running"])


def scores(service: Service, texts: list[str]) -> list[dict[str, float]]:
    status, answers = ask(service, {"inputs": texts, "top_k": None})
    assert status == 200, answers
    return [{entry["label"]: entry["score"] for entry in answer} for answer in answers]


def logits(service: Service, texts: list[str]) -> torch.Tensor:
    """`[texts, labels]`, of one request."""
    request = service.tokenize(post(texts))
    assert isinstance(request, Tokenized)
    return torch.stack([row for [row] in service.compute([request])[0]])


def test_every_precision_is_built_on_the_devices_that_have_it() -> None:
    assert {name: tuple(built) for name, built in BUILDERS.items()} == {
        name: each.devices for name, each in PRECISIONS.items()
    }


def test_module_is_freed_once_it_is_packed(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[Any]] = []

    def load(*arguments: Any) -> torch.jit.ScriptModule:
        module = load_torchscript(*arguments)
        loaded.append(weakref.ref(module))
        return module

    monkeypatch.setitem(LOADERS, "torchscript", load)
    service = Service(artifact("bert"), CPU)
    assert not service._runtime.executor.holds_module
    [module] = loaded
    assert module() is None


def importances(answer: dict[str, Any]) -> list[float]:
    [explanation] = answer["explanations"]
    return [token["importance"] for token in explanation["tokens"]]


@pytest.mark.parametrize("precision", ["float32", *LOWER])
@pytest.mark.parametrize("name", ["distilbert", "roberta", "gpt2", "convbert", "fixed_length"])
def test_answer_does_not_depend_on_neighbours_and_padding(
    artifact: Artifact, tmp_path: Path, name: str, precision: str
) -> None:
    if (name, precision) == ("gpt2", "int8"):
        pytest.skip("these random weights do not bear int8")
    service = Service(lowered(artifact(name), tmp_path, precision), CPU)
    assert running(service) == {"precision": precision, "reason": None}
    alone = torch.cat([logits(service, [text]) for text in TEXTS])
    for at in range(len(TEXTS)):
        order = [*range(at, len(TEXTS)), *range(at)]
        together = logits(service, [TEXTS[index] for index in order])
        largest = float((together - alone[order]).abs().max() / alone.abs().max())
        assert largest <= ROUNDING[precision]


@pytest.mark.parametrize("precision", LOWER)
def test_lower_precision_is_another_computation(
    artifact: Artifact, tmp_path: Path, precision: str
) -> None:
    lower = Service(lowered(artifact("bert"), tmp_path, precision), CPU)
    pairs = zip(scores(lower, TEXTS), scores(Service(artifact("bert"), CPU), TEXTS), strict=True)
    for found, exact in pairs:
        assert found != exact
        assert found == pytest.approx(exact, abs=0.2)


def test_artifact_without_its_calibration_is_not_served(artifact: Artifact, tmp_path: Path) -> None:
    folder = change(artifact("bert"), tmp_path, bundle={"precision": "int8"})
    with pytest.raises(ArtifactError, match=r"calibration\.json is missing; make the artifact"):
        Service(folder, CPU)
    (folder / CALIBRATION_FILE).write_text('{"method": "forward"}')
    with pytest.raises(ArtifactError, match=r"calibration\.json: this is not a calibration"):
        Service(folder, CPU)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_worker_that_cannot_runs_in_float32_and_says_so(
    artifact: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    precision: str,
) -> None:
    """bfloat16 where oneDNN finds no instructions for it, float16 on any CPU."""

    class Old(weights.PackedWeights):
        def __init__(self, dtype: torch.dtype) -> None:
            if dtype == torch.bfloat16:
                raise weights.UnavailableError("this CPU has no bfloat16 instructions")
            super().__init__(dtype)

    monkeypatch.setattr(
        "torchscript_bundle.serving.engine.onednn.rewrite.linear_fusion.PackedWeights", Old
    )
    exact = scores(Service(artifact("bert"), CPU), TEXTS)
    folder = change(artifact("bert"), tmp_path, bundle={"precision": precision})
    caplog.clear()
    service = Service(folder, CPU)
    # Batches are cut by what passes cost at the moment, and so are the last digits.
    for found, wanted in zip(scores(service, TEXTS), exact, strict=True):
        assert found == pytest.approx(wanted, abs=1e-5)
    said = running(service)
    assert said["precision"] == "float32"
    reasons = {"bfloat16": "no bfloat16 instructions", "float16": "no float16 on a cpu device"}
    assert reasons[precision] in str(said["reason"])
    [warning] = [each for each in caplog.messages if "it runs in float32" in each]
    assert f"asks for {precision}" in warning


@pytest.mark.parametrize("precision", LOWER)
def test_explanations_stay_with_the_dense_float32_module(
    explained: Artifact, tmp_path: Path, precision: str
) -> None:
    request = HttpRequest({"body": b"It works."}, {"body": "text/plain"}, purpose="explain")
    folder = lowered(explained("bert"), tmp_path, precision)
    lower, exact = Service(folder, CPU), Service(explained("bert"), CPU)
    assert running(lower)["precision"] == precision
    assert lower._runtime.module.state_dict().keys() == exact._runtime.module.state_dict().keys()
    [[found], [wanted]] = [each.answer([request]) for each in (lower, exact)]
    assert importances(read(found)) == importances(read(wanted))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_what_is_done_on_a_gpu_done_on_a_cpu(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setitem(BUILDERS[precision], "cpu", BUILDERS[precision]["cuda"])
    service = Service(change(artifact("bert"), tmp_path, bundle={"precision": precision}), CPU)
    assert running(service) == {"precision": precision, "reason": None}
    [parameter, *_] = service._runtime.module.parameters()
    assert str(parameter.dtype) == f"torch.{precision}"
    pairs = zip(scores(service, TEXTS), scores(Service(artifact("bert"), CPU), TEXTS), strict=True)
    for found, exact in pairs:
        assert found != exact
        assert found == pytest.approx(exact, abs=0.1)

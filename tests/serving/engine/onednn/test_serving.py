"""A worker over packed weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving.helpers import CPU, ask, change, read
from torchscript_bundle.serving.api.http import HttpRequest
from torchscript_bundle.serving.artifact import MODULE_FILE
from torchscript_bundle.serving.service import Service

Artifact = Callable[[str], Path]
TEXTS = ["It works.", "The film was long and the ending was a surprise to all of us.", "x"]


def plain(folder: Path, to: Path) -> Service:
    """A service of the same artifact whose config says not to pack."""
    return Service(change(folder, to, config={"packed_weights": False}), CPU)


@pytest.mark.parametrize("name", ["bert", "gpt2", "convbert", "fixed_length", "llama_embedding"])
def test_answers_are_those_of_the_plain_module(
    artifact: Artifact, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    packed = Service(artifact(name), CPU)
    assert "linear layers packed" in caplog.text
    caplog.clear()
    dense = plain(artifact(name), tmp_path)
    assert "packed" not in caplog.text
    (status, answers), (_, expected) = ask(packed, TEXTS), ask(dense, TEXTS)
    assert status == 200
    assert _numbers(answers) == pytest.approx(_numbers(expected), rel=1e-4, abs=2e-5)


def test_file_and_dense_module_are_not_needed(artifact: Artifact, tmp_path: Path) -> None:
    folder = change(artifact("bert"), tmp_path)
    service = Service(folder, CPU)
    expected = ask(service, TEXTS)
    (folder / MODULE_FILE).unlink()
    assert ask(service, TEXTS) == expected
    assert not hasattr(service._runtime, "_module")


def test_explanations_are_those_of_the_plain_module(explained: Artifact, tmp_path: Path) -> None:
    request = HttpRequest({"body": b"It works."}, {"body": "text/plain"}, "*/*", purpose="explain")
    services = Service(explained("bert"), CPU), plain(explained("bert"), tmp_path)
    [one], [other] = ([read(each) for each in every.answer([request])] for every in services)
    assert _numbers(one) == pytest.approx(_numbers(other), rel=1e-3, abs=1e-5)
    assert any(abs(each) > 1e-3 for each in _numbers(one))


def _numbers(value: object) -> list[float]:
    """Every number of an answer, in order."""
    if isinstance(value, dict):
        return [each for key in sorted(value) for each in _numbers(value[key])]
    if isinstance(value, list):
        return [each for item in value for each in _numbers(item)]
    return [float(value)] if isinstance(value, (int, float)) else []

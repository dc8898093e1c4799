"""A lower precision of a model that writes: its next tokens beside those in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cpu import needs_bfloat16
from tests.export.helpers import config_for, refused
from tests.serving.helpers import CPU, change
from torchscript_bundle.export.quality import gate
from torchscript_bundle.export.quality.choice import settle_precision
from torchscript_bundle.export.quality.texts import Line
from torchscript_bundle.export.quality.writing import NEW, WritingRehearsal
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.generation.generation_service import GenerationService

Artifact = Callable[[str], Path]
TEXTS = ["It works.", "x", "We waited an hour", '{"inputs": "soup", "parameters": {"top_k": 3}}']
MODES = {"gpt2_writer": "text_generation", "t5_writer": "text2text_generation"}


@needs_bfloat16
@pytest.mark.parametrize("name", [*MODES])
def test_each_next_token_is_a_decision(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(gate, "LEAST_KEPT", 0.0)
    monkeypatch.setattr(gate, "MEAN_CHANGE", 1.0)
    (tmp_path / "texts.txt").write_text("\n".join([*TEXTS, '{"x": 1}']))
    config = config_for(
        tmp_path,
        tmp_path,
        mode=MODES[name],
        precision="bfloat16",
        calibration_file="texts.txt",
        max_length=64,
    )
    folder = change(artifact(name), tmp_path / "artifact")
    made = settle_precision(config, folder, Bundle.load(folder))
    assert made.precision == "bfloat16"
    assert made.quality["refused_lines"] == [5]
    [found] = made.quality["tried"]
    assert found["decisions"] == len(TEXTS) * (1 + NEW)
    assert found["largest_change"] > 0
    served = change(folder, folder, bundle={"precision": "bfloat16"})
    assert GenerationService(served, CPU).running.precision == "bfloat16"


@pytest.mark.parametrize("name", [*MODES])
def test_what_is_compared_is_what_the_module_as_saved_gives(
    artifact: Artifact, tmp_path: Path, name: str
) -> None:
    folder = change(artifact(name), tmp_path)
    rehearsal = WritingRehearsal(folder, Bundle.load(folder), "float32", CPU)
    long = "soup " * 200
    assert "tokens; send at most" in str(rehearsal.read(Line(1, long)))
    request = rehearsal.read(Line(1, '["It works.", "We waited an hour for cold soup"]'))
    assert not isinstance(request, str)
    [items] = rehearsal.compute([request])
    module = torch.jit.load(str(folder / "traced_model.pt"))
    for at, [row] in enumerate(items):
        ids = torch.tensor([request.prompts[at]])
        logits, cache = module.prefill(ids, torch.ones_like(ids), NEW)
        alone = [logits]
        for tokens in request.written:
            logits, cache = module.step(tokens[at : at + 1], cache)
            alone.append(logits)
        expected = torch.cat(alone)
        scale = float(expected.abs().max())
        torch.testing.assert_close(row.outputs[0], expected, rtol=0, atol=1e-4 * scale)


def test_int8_is_not_offered(tmp_path: Path) -> None:
    with refused("precision: text_generation is served in float32 or bfloat16, not in int8"):
        config_for(tmp_path, tmp_path, mode="text_generation", precision="int8")


def test_writer_that_cannot_runs_in_float32_and_says_so(
    artifact: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = change(
        artifact("gpt2_writer"),
        tmp_path,
        bundle={"precision": "bfloat16"},
        config={"packed_weights": False},
    )
    service = GenerationService(folder, CPU)
    said = service.describe()["running"]
    assert said["precision"] == "float32"
    assert "there is no bfloat16" in said["reason"]
    assert "the archive asks for bfloat16, which cannot be had here" in caplog.text

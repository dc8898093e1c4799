"""int8 layers answer nearly as the saved module does, and each row by itself."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.serving.packed.helpers import Ids, apart, ids, reload
from tests.serving.packed.int8.test_calibration import SAMPLES, Feedforward, load
from torchscript_bundle.jit import tracing
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.serving.artifact import MODULE_FILE, Bundle
from torchscript_bundle.serving.packed import Packed, calibrate, pack_int8
from torchscript_bundle.serving.packed.int8 import fusions, weights
from torchscript_bundle.serving.packed.int8.weights import Quantisation

Artifact = Callable[[str], Path]

DYNAMIC = ["bert", "roberta", "distilbert", "gpt2", "bart", "bert_mlm", "roberta_embedding"]


def pack_artifact(folder: Path) -> tuple[torch.jit.ScriptModule, Packed, int]:
    module = tracing.load(folder / MODULE_FILE, torch.device("cpu"))
    module.eval()
    count = len(Bundle.load(folder).inputs)
    samples: list[Ids] = [ids(1, length, count) for length in range(4, 40, 3)]
    packed = pack_int8(module, [samples[2], ids(3, 12, count)], calibrate(module, samples))
    assert packed.reason is None
    return module, packed, count


@pytest.mark.parametrize("name", DYNAMIC)
def test_close_to_the_module(artifact: Artifact, name: str) -> None:
    module, packed, count = pack_artifact(artifact(name))
    with torch.inference_mode():
        for shape in ((1, 9), (5, 33), (8, 64)):
            inputs = ids(*shape, count)
            found = apart(module(*inputs), packed(*inputs))
            assert 1e-6 < found < 0.1


@pytest.mark.parametrize("name", DYNAMIC)
def test_neighbours_and_padding_change_nothing_but_rounding(artifact: Artifact, name: str) -> None:
    """A float's last digit may tip a number to the next of 256 steps, and no more than that."""
    _, packed, count = pack_artifact(artifact(name))
    together = ids(6, 30, count)
    with torch.inference_mode():
        answers = packed(*together)
        for row in range(6):
            length = int(together[1][row].sum())
            alone = packed(*(each[row : row + 1, :length] for each in together))
            per_token = answers[0].shape[1] == 30
            beside = [each[row : row + 1, : length if per_token else None] for each in answers]
            assert apart(alone, beside) < 1e-5


def exact(module: Feedforward, x: torch.Tensor, up: Quantisation, down: Quantisation) -> Any:
    """The block with its numbers rounded one by one, in float64."""

    def rounded(x: torch.Tensor, by: Quantisation) -> torch.Tensor:
        return ((x / by.scale).round() + by.zero).clamp(0, 255).sub(by.zero) * by.scale

    def weight(layer: torch.nn.Linear) -> torch.Tensor:
        scales = layer.weight.double().abs().amax(dim=1, keepdim=True) / 127
        return (layer.weight / scales).round() * scales

    given = rounded(module.norm(x).double(), up)
    middle = given @ weight(module.up).t() + module.up.bias
    middle = rounded(torch.nn.functional.gelu(middle), down)
    return middle @ weight(module.down).t() + module.down.bias + x


def test_equals_rounding_by_hand(tmp_path: Path) -> None:
    """Also where inputs reach further than the samples did."""
    eager = Feedforward().eval()
    module = load(tmp_path, eager)
    calibration = calibrate(module, SAMPLES)
    packed = pack_int8(module, SAMPLES, calibration)
    read = [Quantisation.of_range(each.low or 0, each.high or 0) for each in calibration.layers]
    x = torch.randn(2, 50, 32) * torch.logspace(0, 1, 50)[:, None]
    with torch.no_grad():
        expected, actual = exact(eager, x, *read), packed(x)[0]
    # A sum in another order may tip a few numbers over to the next step.
    assert float((expected - actual).abs().gt(1e-4).float().mean()) < 0.01


def test_far_reaching_channels_are_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(tmp_path, Feedforward(reach=50.0))
    x = torch.randn(2, 50, 32)
    smoothed = calibrate(module, SAMPLES)
    monkeypatch.setattr("torchscript_bundle.serving.packed.int8.smoothing.GAIN", float("inf"))
    plain = calibrate(module, SAMPLES)
    assert plain.layers[0].divisors is None
    with torch.no_grad():
        errors = [
            float((pack_int8(module, SAMPLES, each)(x)[0] - module(x)[0]).square().mean())
            for each in (smoothed, plain)
        ]
    assert errors[0] < errors[1] / 4


def operators(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        packed(*SAMPLES[0])
    return [event.name for event in profile.events() or []]


def test_between_layers_numbers_stay_uint8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(tmp_path, Feedforward())
    packed = pack_int8(module, SAMPLES, calibrate(module, SAMPLES))
    packed(*SAMPLES[0])
    found = operators(packed, monkeypatch)
    assert found.count("aten::quantize_per_tensor") == 1
    assert found.count("onednn::qlinear_pointwise") == 2
    assert "aten::gelu" not in found


def test_layers_that_read_the_same_share_one_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Three(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(32, n) for n in (16, 32, 48, 2))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(layer(x) for layer in self.layers)

    module = load(tmp_path, Three())
    packed = pack_int8(module, SAMPLES, calibrate(module, SAMPLES))
    assert packed.reason is None
    assert apart(module(*SAMPLES[1]), packed(*SAMPLES[1])) < 0.05
    # Two outputs are not worth int8: exact but for the order of sums.
    assert apart(module(*SAMPLES[1])[3:], packed(*SAMPLES[1])[3:]) < 1e-6
    found = operators(packed, monkeypatch)
    assert found.count("onednn::qlinear_pointwise") == 1
    assert found.count("mkldnn::_linear_pointwise") == 1


def test_loops_and_branches_that_did_not_run(tmp_path: Path) -> None:
    class Steps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.other = torch.nn.Linear(32, 32), torch.nn.Linear(32, 32, bias=False)

        def forward(self, x: torch.Tensor, often: bool) -> tuple[torch.Tensor]:
            for _ in range(x.size(1)):
                x = torch.tanh(self.linear(x)) if often else self.other(x) + x
            return (x,)

    loaded = reload(Steps(), tmp_path / "module.pt")
    calibration = calibrate(loaded, [(*each, True) for each in SAMPLES])
    assert [each.low is None for each in calibration.layers] == [False, True]
    packed = pack_int8(loaded, [(*each, True) for each in SAMPLES], calibration)
    assert packed.reason is None
    x = torch.randn(2, 4, 32)
    assert apart(loaded(x, True), packed(x, True)) < 0.1
    assert apart(loaded(x, False), packed(x, False)) < 1e-5


def test_empty_batch(tmp_path: Path) -> None:
    module = load(tmp_path, Feedforward())
    packed = pack_int8(module, SAMPLES, calibrate(module, SAMPLES))
    assert packed(torch.zeros(0, 4, 32))[0].shape == (0, 4, 32)


def test_no_warning_reaches_the_log(tmp_path: Path) -> None:
    module = load(tmp_path, Feedforward())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        packed = pack_int8(module, SAMPLES, calibrate(module, SAMPLES))
        packed(*SAMPLES[0])
    assert [each.message for each in caught if "quint8" in str(each.message)] == []


def test_cpu_without_int8_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = load(tmp_path, Feedforward())
    calibration = calibrate(module, SAMPLES)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    packed = pack_int8(module, SAMPLES, calibration)
    assert "VNNI" in str(packed.reason)
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert torch.equal(packed(*SAMPLES[0])[0], module(*SAMPLES[0])[0])


def test_torch_without_the_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(tmp_path, Feedforward())
    calibration = calibrate(module, SAMPLES)
    monkeypatch.setattr(weights, "OPERATORS", ("onednn::qlinear_of_tomorrow",))
    assert "no onednn::qlinear_of_tomorrow" in str(pack_int8(module, SAMPLES, calibration).reason)


def test_nothing_worth_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(tmp_path, Feedforward())
    monkeypatch.setattr(fusions, "FEWEST_OUTPUTS", 1000)
    packed = pack_int8(module, SAMPLES, calibrate(module, SAMPLES))
    assert "no linear layer that is worth int8" in str(packed.reason)


def test_traced_module_in_two_blocks(tmp_path: Path) -> None:
    """An output that two read, one of them an int8 layer, stays float32."""

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = torch.nn.Linear(32, 32), torch.nn.Linear(32, 32)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            middle = torch.relu(self.one(x))
            return self.two(middle), middle

    module = reload(trace(Twice().eval(), SAMPLES[0]), tmp_path / "module.pt")
    packed = pack_int8(module, SAMPLES, calibrate(module, SAMPLES))
    assert packed.reason is None
    assert apart(module(*SAMPLES[1]), packed(*SAMPLES[1])) < 0.05

"""int8 layers answer nearly as the saved module does, and each row by itself."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cpu import needs_int8
from tests.serving.engine.onednn.helpers import apart, floats, ids, reload, reload_traced, vectors
from tests.serving.engine.onednn.models import (
    Feedforward,
    Make,
    bert,
    distilbert,
    gpt2,
    load_model,
    roberta,
)
from torchscript_bundle.serving.engine.onednn import Packed, calibrate, pack_int8
from torchscript_bundle.serving.engine.onednn.int8 import quantised_linears, quantised_weights
from torchscript_bundle.serving.engine.onednn.int8.quantised_weights import Quantisation

#: Of the logits' scale: less than one step of an activation makes, and far less than the 0.02 that
#: scales taken from the batch at hand make.
STEP = 1e-3
MODELS: list[Make] = [bert, roberta, distilbert, gpt2]


def samples() -> list[tuple[torch.Tensor, ...]]:
    """What modules are calibrated on, and compared."""
    return vectors((1, 4), (1, 9))


def load(folder: Path, module: torch.nn.Module) -> torch.jit.ScriptModule:
    return reload_traced(module, samples()[0], folder)


@pytest.fixture(scope="module", params=MODELS, ids=lambda make: make.__name__)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[torch.jit.ScriptModule, Packed]:
    """A model as saved, and in int8."""
    module = load_model(request.param, tmp_path_factory.mktemp("int8"))
    texts = [ids(1, length) for length in range(4, 64, 4)]
    packed = pack_int8(module, [texts[2], ids(3, 12)], calibrate(module, texts))
    assert packed.reason is None
    return module, packed


Both = tuple[torch.jit.ScriptModule, Packed]


@needs_int8
def test_close_to_the_module(both: Both) -> None:
    module, packed = both
    with torch.inference_mode():
        for shape in ((1, 9), (5, 33), (8, 64), (1, 64)):
            found = apart(module(*ids(*shape)), packed(*ids(*shape)))
            assert 1e-6 < found < 0.1


@needs_int8
def test_neighbours_and_padding_change_nothing_but_rounding(both: Both) -> None:
    """float32 rounding may tip a number over to the next of 256 steps; nothing else changes."""
    _, packed = both
    together = ids(6, 30)
    with torch.inference_mode():
        [answers] = packed(*together)
        for row in range(6):
            length = int(together[1][row].sum())
            alone = packed(*(each[row : row + 1, :length] for each in together))
            assert apart(alone, [answers[row : row + 1]]) < STEP


def exact(module: Feedforward, x: torch.Tensor, up: Quantisation, down: Quantisation) -> Any:
    """The block with its numbers rounded one by one, in float64."""

    def rounded(x: torch.Tensor, by: Quantisation) -> torch.Tensor:
        return ((x / by.scale).round() + by.zero_point).clamp(0, 255).sub(by.zero_point) * by.scale

    def weight(layer: torch.nn.Linear) -> torch.Tensor:
        scales = layer.weight.double().abs().amax(dim=1, keepdim=True) / 127
        return (layer.weight / scales).round() * scales

    given = rounded(module.norm(x).double(), up)
    middle = given @ weight(module.up).t() + module.up.bias
    middle = rounded(torch.nn.functional.gelu(middle), down)
    return middle @ weight(module.down).t() + module.down.bias + x


@needs_int8
def test_equals_rounding_by_hand(tmp_path: Path) -> None:
    """Also where inputs reach further than the samples did."""
    eager = Feedforward().eval()
    module = load(tmp_path, eager)
    calibration = calibrate(module, samples())
    packed = pack_int8(module, samples(), calibration)
    read = [Quantisation.of_range(each.low or 0, each.high or 0) for each in calibration.layers]
    x = floats(2, 50, 32) * torch.logspace(0, 1, 50)[:, None]
    with torch.no_grad():
        expected, actual = exact(eager, x, *read), packed(x)[0]
    # A sum in another order may tip a few numbers over to the next step.
    assert float((expected - actual).abs().gt(1e-4).float().mean()) < 0.01


@needs_int8
def test_far_reaching_channels_are_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(tmp_path, Feedforward(reach=50.0))
    x = floats(2, 50, 32)
    smoothed = calibrate(module, samples())
    monkeypatch.setattr(
        "torchscript_bundle.serving.engine.onednn.int8.smoothing.GAIN", float("inf")
    )
    plain = calibrate(module, samples())
    assert plain.layers[0].divisors is None
    with torch.no_grad():
        errors = [
            float((pack_int8(module, samples(), each)(x)[0] - module(x)[0]).square().mean())
            for each in (smoothed, plain)
        ]
    assert errors[0] < errors[1] / 2


def operators(packed: Packed) -> list[str]:
    with (
        torch.inference_mode(),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
    ):
        packed(*samples()[0])
    return [event.name for event in profile.events() or []]


@needs_int8
def test_between_layers_numbers_stay_uint8(tmp_path: Path) -> None:
    module = load(tmp_path, Feedforward())
    packed = pack_int8(module, samples(), calibrate(module, samples()))
    packed(*samples()[0])
    found = operators(packed)
    assert found.count("aten::quantize_per_tensor") == 1
    assert found.count("onednn::qlinear_pointwise") == 2
    assert "aten::gelu" not in found


@needs_int8
def test_layers_that_read_the_same_share_one_operator(tmp_path: Path) -> None:
    class Three(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(32, n) for n in (16, 32, 48, 2))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(layer(x) for layer in self.layers)

    module = load(tmp_path, Three())
    packed = pack_int8(module, samples(), calibrate(module, samples()))
    assert packed.reason is None
    with torch.inference_mode():
        expected, actual = module(*samples()[1]), packed(*samples()[1])
    assert apart(expected, actual) < 0.05
    # Two outputs are not worth int8: exact but for the order of sums.
    assert apart(expected[3:], actual[3:]) < 1e-6
    found = operators(packed)
    assert found.count("onednn::qlinear_pointwise") == 1
    assert found.count("mkldnn::_linear_pointwise") == 1


@needs_int8
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
    calibration = calibrate(loaded, [(*each, True) for each in samples()])
    assert [each.low is None for each in calibration.layers] == [False, True]
    packed = pack_int8(loaded, [(*each, True) for each in samples()], calibration)
    assert packed.reason is None
    x = floats(2, 4, 32)
    with torch.inference_mode():
        assert apart(loaded(x, True), packed(x, True)) < 0.1
        assert apart(loaded(x, False), packed(x, False)) < 1e-5


@needs_int8
def test_no_warning_reaches_the_log(tmp_path: Path) -> None:
    """torch warns of quint8 once in a process, which may have been in another test."""
    module = load(tmp_path, Feedforward())
    calibration = calibrate(module, samples())
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.quantize_per_tensor(torch.ones(1), 1.0, 0, torch.quint8)
            assert "quantize_per_tensor" in str(caught.pop().message)
            packed = pack_int8(module, samples(), calibration)
    finally:
        torch.set_warn_always(False)
    assert packed.reason is None
    assert [str(each.message) for each in caught] == []


def test_cpu_without_int8_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = load(tmp_path, Feedforward())
    calibration = calibrate(module, samples())
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    packed = pack_int8(module, samples(), calibration)
    assert "VNNI" in str(packed.reason)
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert torch.equal(packed(*samples()[0])[0], module(*samples()[0])[0])


def test_torch_without_the_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(tmp_path, Feedforward())
    calibration = calibrate(module, samples())
    monkeypatch.setattr(quantised_weights, "OPERATORS", ("onednn::qlinear_of_tomorrow",))
    assert "no onednn::qlinear_of_tomorrow" in str(pack_int8(module, samples(), calibration).reason)


@needs_int8
def test_nothing_worth_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(tmp_path, Feedforward())
    monkeypatch.setattr(quantised_linears, "FEWEST_OUTPUTS", 1000)
    packed = pack_int8(module, samples(), calibrate(module, samples()))
    assert "no linear layer that is worth int8" in str(packed.reason)


@needs_int8
def test_output_that_others_read_too(tmp_path: Path) -> None:
    """It stays float32."""

    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = torch.nn.Linear(32, 32), torch.nn.Linear(32, 32)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            middle = torch.relu(self.one(x))
            return self.two(middle), middle

    module = load(tmp_path, Twice())
    packed = pack_int8(module, samples(), calibrate(module, samples()))
    assert packed.reason is None
    with torch.inference_mode():
        assert apart(module(*samples()[1]), packed(*samples()[1])) < 0.05

"""What is measured on samples, how it is saved, and what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cpu import needs_int8
from tests.serving.engine.onednn.helpers import reload
from torchscript_bundle.jit import tracing
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.serving.engine.comparison import NotPackedError
from torchscript_bundle.serving.engine.onednn import Calibration, calibrate, pack_int8

RANDOM = torch.Generator().manual_seed(0)
SAMPLES = [(torch.randn(1, length, 32, generator=RANDOM),) for length in (4, 9)]


class Feedforward(torch.nn.Module):
    """A short encoder block; `reach` enlarges one channel of what the first layer reads."""

    def __init__(self, reach: float = 1.0, outputs: int = 64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = torch.nn.LayerNorm(32)
        self.up = torch.nn.Linear(32, outputs)
        self.down = torch.nn.Linear(outputs, 32)
        self.norm.weight.data[7] *= reach
        # What training makes of such a channel: small weights.
        self.up.weight.data[:, 7] /= reach

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.down(torch.nn.functional.gelu(self.up(self.norm(x)))) + x,)


def load(folder: Path, module: torch.nn.Module) -> torch.jit.ScriptModule:
    return reload(trace(module.eval(), SAMPLES[0]), folder / "module.pt")


def test_ranges_are_those_of_what_layers_read(tmp_path: Path) -> None:
    eager = Feedforward().eval()
    calibration = calibrate(load(tmp_path, eager), SAMPLES)
    with torch.no_grad():
        normed = torch.cat([eager.norm(x).flatten() for (x,) in SAMPLES])
        middle = torch.nn.functional.gelu(
            torch.cat([eager.up(eager.norm(x)).flatten() for (x,) in SAMPLES])
        )
    up, down = calibration.layers
    assert (up.inputs, up.outputs, down.inputs, down.outputs) == (32, 64, 64, 32)
    assert (up.low, up.high) == pytest.approx((float(normed.min()), float(normed.max())))
    assert (down.low, down.high) == pytest.approx((float(middle.min()), float(middle.max())))
    assert up.divisors is down.divisors is None


def test_json_and_back(tmp_path: Path) -> None:
    calibration = calibrate(load(tmp_path, Feedforward(reach=50.0)), SAMPLES)
    assert calibration.layers[0].divisors is not None
    text = json.dumps(calibration.as_dict(), allow_nan=False)
    assert Calibration.from_dict(json.loads(text)) == calibration


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"low": None}, "no finite range"),
        ({"low": 5.0, "high": 1.0}, "no finite range"),
        ({"high": float("inf")}, "no finite range"),
        ({"divisors": [1.0]}, "no divisor for each input"),
        ({"divisors": [0.0] * 32}, "no divisor for each input"),
        ({"scale": 1.0}, "not a calibration"),
    ],
)
def test_what_is_no_calibration(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    data = calibrate(load(tmp_path, Feedforward()), SAMPLES).as_dict()
    data["layers"][0] |= change
    with pytest.raises(ValueError, match=said):
        Calibration.from_dict(data)


def test_same_calibration_on_every_load(tmp_path: Path) -> None:
    module = load(tmp_path, Feedforward())
    again = tracing.load(tmp_path / "module.pt", torch.device("cpu"))
    again.eval()
    assert calibrate(module, SAMPLES) == calibrate(again, SAMPLES)


@needs_int8
def test_module_with_other_weights(tmp_path: Path) -> None:
    calibration = calibrate(load(tmp_path, Feedforward()), SAMPLES)
    other = load(tmp_path, Feedforward(reach=2.0))
    packed = pack_int8(other, SAMPLES, calibration)
    assert packed.reason == (
        "linear layer 0 is not the one that was calibrated: calibrate it again"
    )
    assert torch.equal(packed(*SAMPLES[0])[0], other(*SAMPLES[0])[0])


@needs_int8
def test_module_with_other_layers(tmp_path: Path) -> None:
    module = load(tmp_path, Feedforward())
    calibration = calibrate(module, SAMPLES)
    short = replace(calibration, layers=calibration.layers[:1])
    assert "is of 1 linear layers, and the module has 2" in str(
        pack_int8(module, SAMPLES, short).reason
    )


def test_no_samples(tmp_path: Path) -> None:
    with pytest.raises(NotPackedError, match="at least one sample"):
        calibrate(load(tmp_path, Feedforward()), [])


def test_module_on_another_device(tmp_path: Path) -> None:
    load(tmp_path, Feedforward())
    module = tracing.load(tmp_path / "module.pt", torch.device("meta"))
    module.eval()
    with pytest.raises(NotPackedError, match="not on the CPU"):
        calibrate(module, SAMPLES)

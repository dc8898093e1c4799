"""What is measured on samples, how it is saved, and what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cpu import needs_int8
from tests.serving.engine.onednn.helpers import load, reload_traced, vectors
from tests.serving.engine.onednn.models import Feedforward
from torchscript_bundle.serving.engine.comparison import UnavailableError
from torchscript_bundle.serving.engine.onednn import Calibration, calibrate, pack_int8


def samples() -> list[tuple[torch.Tensor, ...]]:
    return vectors((1, 4), (1, 9))


def feedforward(folder: Path, reach: float = 1.0) -> torch.jit.ScriptModule:
    return reload_traced(Feedforward(reach), samples()[0], folder)


def test_ranges_are_those_of_what_layers_read(tmp_path: Path) -> None:
    eager = Feedforward().eval()
    calibration = calibrate(reload_traced(eager, samples()[0], tmp_path), samples())
    with torch.no_grad():
        normed = torch.cat([eager.norm(x).flatten() for (x,) in samples()])
        middle = torch.nn.functional.gelu(
            torch.cat([eager.up(eager.norm(x)).flatten() for (x,) in samples()])
        )
    up, down = calibration.layers
    assert (up.inputs, up.outputs, down.inputs, down.outputs) == (32, 64, 64, 32)
    assert (up.low, up.high) == pytest.approx((float(normed.min()), float(normed.max())))
    assert (down.low, down.high) == pytest.approx((float(middle.min()), float(middle.max())))
    assert up.divisors is down.divisors is None


def test_json_and_back(tmp_path: Path) -> None:
    calibration = calibrate(feedforward(tmp_path, 50.0), samples())
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
    data = calibrate(feedforward(tmp_path), samples()).as_dict()
    data["layers"][0] |= change
    with pytest.raises(ValueError, match=said):
        Calibration.from_dict(data)


def test_same_calibration_on_every_load(tmp_path: Path) -> None:
    module = feedforward(tmp_path)
    again = load(tmp_path / "module.pt")
    assert calibrate(module, samples()) == calibrate(again, samples())


@needs_int8
def test_module_with_other_weights(tmp_path: Path) -> None:
    calibration = calibrate(feedforward(tmp_path), samples())
    other = feedforward(tmp_path, 2.0)
    packed = pack_int8(other, samples(), calibration)
    assert packed.reason == (
        "linear layer 0 is not the one that was calibrated: calibrate it again"
    )
    assert torch.equal(packed(*samples()[0])[0], other(*samples()[0])[0])


@needs_int8
def test_module_with_other_layers(tmp_path: Path) -> None:
    module = feedforward(tmp_path)
    calibration = calibrate(module, samples())
    short = replace(calibration, layers=calibration.layers[:1])
    assert "is of 1 linear layers, and the module has 2" in str(
        pack_int8(module, samples(), short).reason
    )


def test_no_samples(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="at least one sample"):
        calibrate(feedforward(tmp_path), [])


def test_module_on_another_device(tmp_path: Path) -> None:
    feedforward(tmp_path)
    with pytest.raises(UnavailableError, match="not on the CPU"):
        calibrate(load(tmp_path / "module.pt", "meta"), samples())

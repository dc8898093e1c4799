"""Several methods, what happens where packing cannot be done, and what is left in memory."""

from __future__ import annotations

import logging
from pathlib import Path

import psutil
import pytest
import torch

from tests.cpu import needs_bfloat16
from tests.serving.engine.onednn.helpers import (
    apart,
    assert_packed_equals,
    floats,
    load,
    reload,
    reload_traced,
    vectors,
)
from torchscript_bundle.jit import tracing
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.serving.engine.memory import release_memory
from torchscript_bundle.serving.engine.onednn import pack, packed_weights
from torchscript_bundle.serving.engine.onednn.packed_weights import PackedWeights
from torchscript_bundle.serving.engine.onednn.rewrite import linear_fusion


class Layers(torch.nn.Module):
    def __init__(self, size: int = 32, layers: int = 2) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(size, size) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        for layer in self.layers:
            x = torch.nn.functional.gelu(layer(x))
        return (x,)


def inputs() -> list[tuple[torch.Tensor, ...]]:
    return vectors((1, 4), (3, 5))


def load_layers(folder: Path) -> torch.jit.ScriptModule:
    return reload_traced(Layers(), inputs()[0], folder)


class Decoder(torch.nn.Module):
    """Methods that share weights and take a cache, and a loop around them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(32, 32)
        self.head = torch.nn.Linear(32, 32)

    @torch.jit.export
    def prefill(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        keys = self.inner(x)
        return self.head(keys.sum(dim=1)), [keys]

    @torch.jit.export
    def step(
        self, x: torch.Tensor, cache: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        keys = torch.cat([cache[0], self.inner(x).unsqueeze(1)], dim=1)
        return self.head(keys.sum(dim=1)), [keys]

    @torch.jit.export
    def generate(self, x: torch.Tensor, steps: int) -> torch.Tensor:
        last, cache = self.prefill(x)
        for _ in range(steps):
            last, cache = self.step(torch.tanh(last), cache)
        return last


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), pytest.param(torch.bfloat16, 1e-1, marks=needs_bfloat16)],
)
def test_methods_share_packed_weights(
    dtype: torch.dtype, tolerance: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[int, torch.Tensor] = {}
    plain = PackedWeights.pack

    def record(self: PackedWeights, dense: list[torch.Tensor]) -> torch.Tensor:
        packed = plain(self, dense)
        made[id(packed)] = packed
        return packed

    monkeypatch.setattr(PackedWeights, "pack", record)
    module = reload(Decoder(), tmp_path / "module.pt")
    cache = [floats(2, 5, 32)]
    examples = {
        "prefill": vectors((1, 4), (2, 5)),
        "step": [(floats(2, 32), cache)],
        "generate": [(floats(2, 5, 32), 3)],
    }
    packed = pack(module, examples, dtype)
    assert packed.reason is None
    assert len(made) == 2
    x = floats(4, 7, 32)
    with torch.inference_mode():
        last, cache = packed.methods["prefill"](x)
        for _ in range(6):
            last, cache = packed.methods["step"](torch.tanh(last), cache)
        expected = module.generate(x, 6)
        assert apart([expected], [last]) <= tolerance
        assert apart([expected], [packed.methods["generate"](x, 6)]) <= tolerance
    assert [each.dtype for each in (last, *cache)] == [torch.float32] * 2


def assert_plain(
    module: torch.jit.ScriptModule, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    packed = pack(module, {"forward": inputs()})
    assert packed.reason is not None
    assert reason in packed.reason
    assert [(each.levelno, reason in each.message) for each in caplog.records] == [
        (logging.WARNING, True)
    ]
    for arguments in inputs():
        assert torch.equal(packed(*arguments)[0], module(*arguments)[0])


def test_torch_without_onednn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert_plain(load_layers(tmp_path), "without oneDNN", caplog)


def test_torch_without_the_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packed_weights, "OPERATORS", ("mkldnn::_linear_of_tomorrow",))
    assert_plain(load_layers(tmp_path), "no mkldnn::_linear_of_tomorrow", caplog)


def test_operator_with_other_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        linear_fusion, "_UNARY", linear_fusion._UNARY.replace("pointwise", "of_tomorrow")
    )
    assert_plain(load_layers(tmp_path), "mkldnn::_linear_of_tomorrow", caplog)


def test_other_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(linear_fusion.ACTIVATIONS, "aten::gelu", "relu")
    assert_plain(load_layers(tmp_path), "differs by", caplog)


def test_module_without_linear_layers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = reload_traced(torch.nn.Tanh(), inputs()[0], tmp_path)
    assert_plain(module, "no linear layer", caplog)


def test_module_on_another_device(tmp_path: Path) -> None:
    load_layers(tmp_path)
    packed = pack(load(tmp_path / "module.pt", "meta"), {"forward": inputs()})
    assert packed.reason == "it is not on the CPU"


def test_module_is_left_as_it_was(tmp_path: Path) -> None:
    module = load_layers(tmp_path)
    before = {name: (each.data_ptr(), each.clone()) for name, each in module.state_dict().items()}
    graph = str(module.graph)
    packed = pack(module, {"forward": inputs()})
    assert_packed_equals(packed, module, inputs())
    assert str(module.graph) == graph
    after = module.state_dict()
    assert before.keys() == after.keys()
    for name, (address, values) in before.items():
        assert after[name].data_ptr() == address
        assert torch.equal(after[name], values)
    x = inputs()[0][0].requires_grad_()
    module(x)[0].sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().max()) > 0


def test_dense_weights_go_with_the_module(tmp_path: Path) -> None:
    """128 MB of weights: packed they are as many, and no other copy stays."""
    size, layers = 2048, 8
    megabytes = size * size * layers * 4 / 1e6
    x = floats(1, size)
    tracing.save(trace(Layers(size, layers).eval(), (x,)), tmp_path / "module.pt")
    release_memory()
    process = psutil.Process()
    before = process.memory_info().rss / 1e6
    module = load(tmp_path / "module.pt")
    packed = pack(module, {"forward": [(x,)]})
    assert packed.reason is None
    del module
    (tmp_path / "module.pt").unlink()
    release_memory()
    grown = process.memory_info().rss / 1e6 - before
    assert grown < 1.3 * megabytes
    assert packed(x)[0].shape == (1, size)

"""Names of classes in saved files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from torchscript_bundle.jit.compilation import script, trace
from torchscript_bundle.jit.names import readable_names
from torchscript_bundle.jit.tracing import load, save


class Doubles(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """`[batch, 3]` -> `[batch, 2]`."""
        return self.linear(rows) * 2


@pytest.mark.parametrize("compiled_by", [script, trace])
def test_class_of_a_module_named_after_a_digest_can_be_loaded_again(
    tmp_path: Path, compiled_by: object
) -> None:
    kind = type("Remote", (Doubles,), {"__module__": "remote.3f2a.7"})
    module, rows = kind().eval(), torch.ones(4, 3)
    compiled = script(module) if compiled_by is script else trace(module, (torch.ones(2, 3),))
    save(compiled, tmp_path / "module.pt")
    assert torch.equal(load(tmp_path / "module.pt", torch.device("cpu"))(rows), module(rows))
    assert kind.__module__ == "remote.3f2a.7"


def test_names_are_put_back_after_an_error() -> None:
    kind = type("Remote", (Doubles,), {"__module__": "7b.remote"})
    with pytest.raises(ValueError, match="inside"), readable_names(kind()):
        assert kind.__module__ == "_7b.remote"
        raise ValueError("inside")
    assert kind.__module__ == "7b.remote"

"""Traces, and which warnings reach whom."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from torchscript_bundle.jit.tracing import accept_deprecation, load, save, trace

CPU = torch.device("cpu")


class Branches(torch.nn.Module):
    """Decides by a value, twice on the same line, so that the trace keeps one way."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor]:
        for _ in range(2):
            rows = rows * 2 if rows.sum() > 0 else rows
        return (self.linear(rows),)


class Warns(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor]:
        warnings.warn("rows are odd", UserWarning, stacklevel=1)
        return (rows + 1,)


class Raises(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor]:
        raise ValueError("no rows today")


def test_trace_answers_as_the_module() -> None:
    module, rows = Branches().eval(), torch.ones(4, 3)
    assert torch.equal(trace(module, (torch.ones(2, 3),)).module(rows)[0], module(rows)[0])


def test_tracer_warnings_are_kept_once_with_their_place_and_not_emitted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        traced = trace(Branches().eval(), (torch.ones(2, 3),))
    [said] = traced.warnings
    assert said.startswith(f"{Path(__file__).name}:")
    assert "Converting a tensor to a Python boolean" in said
    assert "\n" not in said


def test_module_without_a_decision_has_no_warnings() -> None:
    assert trace(torch.nn.Linear(3, 2).eval(), (torch.ones(2, 3),)).warnings == ()


def test_other_warnings_pass_through_a_trace() -> None:
    with pytest.warns(UserWarning, match="rows are odd"):
        traced = trace(Warns(), (torch.ones(2, 3),))
    assert traced.warnings == ()


def test_errors_pass_through_a_trace() -> None:
    with pytest.raises(ValueError, match="no rows today"):
        trace(Raises(), (torch.ones(2, 3),))


def test_tracing_saving_and_loading_are_silent_and_change_nothing(tmp_path: Path) -> None:
    module, rows = torch.nn.Linear(3, 2).eval(), torch.ones(4, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(trace(module, (torch.ones(2, 3),)).module, tmp_path / "module.pt")
        loaded = load(tmp_path / "module.pt", CPU)
    assert torch.equal(loaded(rows), module(rows))


def test_class_of_a_module_named_after_a_digest_can_be_loaded_again(tmp_path: Path) -> None:
    kind = type("Remote", (Branches,), {"__module__": "remote.3f2a.7"})
    module, rows = kind().eval(), torch.ones(4, 3)
    save(trace(module, (torch.ones(2, 3),)).module, tmp_path / "module.pt")
    assert torch.equal(load(tmp_path / "module.pt", CPU)(rows)[0], module(rows)[0])
    assert kind.__module__ == "remote.3f2a.7"


def test_only_the_deprecation_of_torchscript_is_hidden() -> None:
    with pytest.warns() as caught, accept_deprecation():
        warnings.warn("`torch.jit.script` is deprecated", DeprecationWarning, stacklevel=1)
        warnings.warn("`torch.qr` is deprecated", DeprecationWarning, stacklevel=1)
        warnings.warn("`torch.jit.script` is odd", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == [
        "`torch.qr` is deprecated",
        "`torch.jit.script` is odd",
    ]


def test_deprecation_is_shown_again_afterwards() -> None:
    with accept_deprecation():
        pass
    with pytest.warns(DeprecationWarning, match="is deprecated"):
        warnings.warn("`torch.jit.script` is deprecated", DeprecationWarning, stacklevel=1)


@pytest.mark.parametrize("content", [b"", b"not a module"])
def test_file_that_is_no_module_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "module.pt").write_bytes(content)
    with pytest.raises(RuntimeError):
        load(tmp_path / "module.pt", CPU)

"""Which warnings of a trace reach whom; saving and loading, also where the disk is full."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path

import pytest
import torch
from torch.jit import TracerWarning

from tests.disks import disk
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.jit.deprecation import accept_deprecation
from torchscript_bundle.jit.tracing import (
    foreign_operators,
    load,
    record_tracer_warnings,
    save,
)

CPU = torch.device("cpu")
ROWS = torch.ones(2, 3)


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


class HasAnOldProperty(Branches):
    """The tracer reads every property, which nobody else asked for."""

    @property
    def old(self) -> int:
        warnings.warn("use new", FutureWarning, stacklevel=1)
        return 0


def test_tracer_warnings_are_recorded_once_with_their_place_and_not_emitted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with record_tracer_warnings() as warned:
            traces = [trace(Branches().eval(), (ROWS,)) for _ in range(2)]
    [said] = warned
    assert said.startswith(f"{Path(__file__).name}:")
    assert "Converting a tensor to a Python boolean" in said
    assert "\n" not in said
    assert len(traces) == 2


def test_module_without_a_decision_has_no_warnings() -> None:
    with record_tracer_warnings() as warned:
        trace(torch.nn.Linear(3, 2).eval(), (ROWS,))
    assert warned == []


def test_other_warnings_pass_through_a_recording() -> None:
    with pytest.warns(UserWarning, match="rows are odd"), record_tracer_warnings() as warned:
        trace(Warns(), (ROWS,))
    assert warned == []


def test_other_warnings_that_are_errors_stay_errors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="rows are odd"), record_tracer_warnings():
            trace(Warns(), (ROWS,))


def test_deprecated_properties_of_a_module_are_not_told() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with record_tracer_warnings() as warned:
            trace(HasAnOldProperty().eval(), (ROWS,))
    assert len(warned) == 1


def test_what_was_warned_of_before_an_error_is_kept() -> None:
    with record_tracer_warnings() as warned, pytest.raises(ZeroDivisionError):
        trace(Branches().eval(), (ROWS,))
        raise ZeroDivisionError
    assert len(warned) == 1


def test_tracer_warnings_are_shown_where_nobody_records_them() -> None:
    with record_tracer_warnings():
        pass
    with pytest.warns(TracerWarning, match="Converting a tensor to a Python boolean"):
        trace(Branches().eval(), (ROWS,))


def test_tracing_saving_and_loading_are_silent_and_change_nothing(tmp_path: Path) -> None:
    module, rows = torch.nn.Linear(3, 2).eval(), torch.ones(4, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(trace(module, (ROWS,)), tmp_path / "module.pt")
        loaded = load(tmp_path / "module.pt", CPU)
    assert torch.equal(loaded(rows), module(rows))


@pytest.mark.parametrize("content", [b"", b"not a module"])
def test_file_that_is_no_module_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "module.pt").write_bytes(content)
    with pytest.raises(RuntimeError):
        load(tmp_path / "module.pt", CPU)


class Scales(torch.nn.Module):
    """Calls an operator that this test registers."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.ops.foreign_test.twice(rows) + 1


def test_operators_of_other_packages_are_told(tmp_path: Path) -> None:
    with torch.library._scoped_library("foreign_test", "DEF") as library:
        library.define("twice(Tensor rows) -> Tensor")
        library.impl("twice", lambda rows: rows * 2, "CompositeExplicitAutograd")
        save(trace(Scales(), (torch.ones(2),)), tmp_path / "module.pt")
        assert foreign_operators(load(tmp_path / "module.pt", CPU)) == ["foreign_test::twice"]
    save(trace(torch.nn.Linear(3, 2), (torch.ones(2, 3),)), tmp_path / "module.pt")
    assert foreign_operators(load(tmp_path / "module.pt", CPU)) == []


class Calls(torch.nn.Module):
    """Calls Python, which no file can hold."""

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.python(x)

    @torch.jit.ignore
    def python(self, x):  # type: ignore[no-untyped-def]
        return x


@pytest.fixture
def module() -> torch.jit.ScriptModule:
    """A megabyte of weights."""
    with accept_deprecation():
        return torch.jit.trace(torch.nn.Linear(512, 512), torch.zeros(1, 512))  # type: ignore


def test_the_file_is_torchs_own(tmp_path: Path, module: torch.jit.ScriptModule) -> None:
    """Byte by byte, over an older file as well."""
    (tmp_path / "ours.pt").write_text("older")
    save(module, tmp_path / "ours.pt")
    theirs = tmp_path / "theirs" / "ours.pt"  # torch names the folder in it after the file
    theirs.parent.mkdir()
    with accept_deprecation():
        torch.jit.save(module, str(theirs))
    assert (tmp_path / "ours.pt").read_bytes() == theirs.read_bytes()
    assert not (tmp_path / "ours.pt").is_symlink()
    x = torch.randn(2, 512)
    assert torch.equal(load(tmp_path / "ours.pt", CPU)(x), module(x))


def test_a_full_disk_is_an_error_and_nothing_is_left(
    tmp_path: Path, module: torch.jit.ScriptModule
) -> None:
    with disk(tmp_path / "full", 500) as place:
        with pytest.raises(OSError) as caught:
            save(module, place / "module.pt")
        assert caught.value.errno == errno.ENOSPC
        assert list(place.iterdir()) == []


def test_a_module_that_calls_python_is_an_error_and_nothing_is_left(tmp_path: Path) -> None:
    with accept_deprecation():
        scripted = torch.jit.script(Calls())
    with pytest.raises(RuntimeError, match="python"):
        save(scripted, tmp_path / "module.pt")
    assert list(tmp_path.iterdir()) == []

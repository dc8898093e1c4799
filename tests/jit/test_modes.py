"""Compile modes: of a class, its subclasses, and single instances."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.fx

from torchscript_bundle.jit.compilation import compile
from torchscript_bundle.jit.modes import compile_mode, get_compile_mode, set_compile_mode
from torchscript_bundle.jit.tracing import save


class Plain(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows * 2


@compile_mode("script")
class Scripted(Plain):
    pass


class Inherits(Scripted):
    pass


@compile_mode(None)
class LeftAlone(Scripted):
    pass


def test_module_without_a_decorator_has_no_mode() -> None:
    assert get_compile_mode(Plain()) is None


def test_subclasses_inherit_the_mode_or_have_their_own() -> None:
    assert get_compile_mode(Scripted()) == "script"
    assert get_compile_mode(Inherits()) == "script"
    assert get_compile_mode(LeftAlone()) is None


@pytest.mark.parametrize("mode", ["trace", "unsupported", None])
def test_instance_overrides_its_class_alone(mode: Any) -> None:
    module = Inherits()
    set_compile_mode(module, mode)
    assert get_compile_mode(module) == mode
    assert get_compile_mode(Inherits()) == "script"


def test_instance_override_is_what_compile_obeys() -> None:
    module = Inherits()
    assert isinstance(compile(module), torch.jit.ScriptModule)
    set_compile_mode(module, None)
    assert compile(module) is module


def test_decorated_class_stays_the_class() -> None:
    assert compile_mode("trace")(Plain) is Plain
    assert compile_mode(None)(Plain) is Plain


@pytest.mark.parametrize("mode", ["compile", "", 1, "Script"])
def test_unknown_mode_is_an_error_at_once(mode: Any) -> None:
    says = "no compile mode .*; there are 'script', 'trace', 'unsupported' and None"
    with pytest.raises(ValueError, match=says):
        compile_mode(mode)
    with pytest.raises(ValueError, match=says):
        set_compile_mode(Plain(), mode)


class Doubles(torch.nn.Module):
    def forward(self, rows):  # type: ignore[no-untyped-def]
        return rows * 2


class Holds(torch.nn.Module):
    """A generated module, as e3nn has them, between code that no compiler takes."""

    def __init__(self) -> None:
        super().__init__()
        self.generated = torch.fx.symbolic_trace(Doubles())

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return (lambda value: self.generated(value) + 1)(rows)


def test_generated_module_is_scripted_unless_it_says_otherwise() -> None:
    holds = Holds()
    assert get_compile_mode(holds.generated) == "script"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = compile(holds, in_place=False)
    assert isinstance(compiled.generated, torch.jit.ScriptModule)
    assert torch.equal(compiled(torch.ones(2)), torch.full((2,), 3.0))
    for mode in ("unsupported", None):
        set_compile_mode(holds.generated, mode)
        assert get_compile_mode(holds.generated) == mode
    assert compile(holds) is holds
    assert isinstance(holds.generated, torch.fx.GraphModule)


@pytest.mark.parametrize("other", [int, Plain(), len])
def test_only_classes_of_modules_can_be_decorated(other: Any) -> None:
    with pytest.raises(TypeError, match=r"subclasses of torch\.nn\.Module"):
        compile_mode("script")(other)


@pytest.mark.parametrize("other", [int, Plain, None])
def test_only_modules_can_be_given_a_mode(other: Any) -> None:
    with pytest.raises(TypeError, match=r"an instance of torch\.nn\.Module"):
        set_compile_mode(other, "script")


def test_mode_of_an_instance_is_not_written_into_the_file(tmp_path: Path) -> None:
    module = Plain()
    set_compile_mode(module, "script")
    compiled = compile(module)
    assert isinstance(compiled, torch.jit.ScriptModule)
    save(compiled, tmp_path / "module.pt")
    assert b"compile_mode" not in (tmp_path / "module.pt").read_bytes()

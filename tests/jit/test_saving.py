"""Saving where the disk is full: an error, never the end of the process."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from tests.disks import disk
from torchscript_bundle.jit.deprecation import accept_deprecation
from torchscript_bundle.jit.tracing import load, save


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
    assert torch.equal(load(tmp_path / "ours.pt", torch.device("cpu"))(x), module(x))


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

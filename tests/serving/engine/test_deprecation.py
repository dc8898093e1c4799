"""Workers hear nothing of TorchScript's deprecation, and of everything else."""

from __future__ import annotations

import warnings

import pytest
import torch

from torchscript_bundle.serving.engine.torchscript import accept_deprecation


def test_what_torch_says_today_is_hidden() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with accept_deprecation():
            torch.jit.script(torch.nn.Linear(3, 2))
        with pytest.raises(DeprecationWarning, match=r"`torch\.jit\.script` is deprecated"):
            torch.jit.script(torch.nn.Linear(3, 2))


def test_other_warnings_pass() -> None:
    with pytest.warns() as caught, accept_deprecation():
        warnings.warn("`torch.qr` is deprecated", DeprecationWarning, stacklevel=1)
        warnings.warn("`torch.jit.script` is odd", UserWarning, stacklevel=1)
    assert len(caught) == 2

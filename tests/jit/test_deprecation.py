"""TorchScript's deprecation is said once, by us."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch

from torchscript_bundle.jit.deprecation import accept_deprecation

SCRIPT = """
import logging, warnings
warnings.simplefilter("error")
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
import torch
from torchscript_bundle.jit import script
for _ in range(3):
    script(torch.nn.Linear(3, 2))
"""


def test_deprecation_is_logged_once_in_a_process() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    [line] = run.stderr.splitlines()
    assert line.startswith("INFO torch has deprecated TorchScript")


def test_only_the_deprecation_of_torchscript_is_hidden() -> None:
    with pytest.warns() as caught, accept_deprecation():
        warnings.warn("`torch.jit.script` is deprecated", DeprecationWarning, stacklevel=1)
        warnings.warn("`torch.qr` is deprecated", DeprecationWarning, stacklevel=1)
        warnings.warn("`torch.jit.script` is odd", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == [
        "`torch.qr` is deprecated",
        "`torch.jit.script` is odd",
    ]


def test_what_torch_says_today_is_what_is_hidden() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with accept_deprecation():
            torch.jit.script(torch.nn.Linear(3, 2))
        with pytest.raises(DeprecationWarning, match=r"`torch\.jit\.script` is deprecated"):
            torch.jit.script(torch.nn.Linear(3, 2))


def test_deprecation_is_shown_again_afterwards() -> None:
    with accept_deprecation():
        pass
    with pytest.warns(DeprecationWarning, match="is deprecated"):
        warnings.warn("`torch.jit.script` is deprecated", DeprecationWarning, stacklevel=1)

"""Services on the tiny artifacts, each set up once a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from torchscript_bundle.serving.service import Service


@pytest.fixture(scope="session")
def service(artifact: Callable[[str], Path]) -> Callable[[str], Service]:
    """A name of `tests.conftest.CHECKPOINTS` -> a service of its artifact on the CPU."""
    return cache(lambda name: Service(artifact(name), torch.device("cpu")))

"""Tiny writers, and services on the tiny artifacts; each set up once a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.serving.generation.helpers import Written, make
from torchscript_bundle.serving.service import Service


@pytest.fixture(scope="session")
def service(artifact: Callable[[str], Path]) -> Callable[[str], Service]:
    """A name of `tests.conftest.CHECKPOINTS` -> a service of its artifact on the CPU."""
    return cache(lambda name: Service(artifact(name), torch.device("cpu")))


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Written]:
    """A name of `helpers.TOKENIZERS` -> its model and artifact; do not write into it."""
    root = tmp_path_factory.mktemp("writers")
    return cache(lambda name: make(name, root / name))
